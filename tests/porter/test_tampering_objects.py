"""Tampering with seals, verdicts and whole objects of a real archive: each is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.document import opened, signed
from porter.footer import Footer
from porter.objects import MemoryObjects
from porter.verdict import COMPLETE, CONFLICTING
from protocol.seal import Seal
from tests.porter.fleet import BUCKET, FakeTailer, node_key
from tests.porter.sealing import Chain
from tests.porter.tampering import Whole, look, objects, part_names, rewrite, texts, whole

__all__ = ["objects", "whole"]  # fixtures


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_dropped_seal(objects: MemoryObjects, tmp_path: Path, which: int) -> None:
    """In the middle of a chain, or its end."""
    name = part_names(objects)[0]
    gone: list[Seal] = []

    def drop(footer: Footer) -> None:
        gone.append(Seal.read(footer.seals.pop(which)))

    rewrite(objects, name, tmp_path, footer=drop)
    found = look(objects)
    verdict = str(name).replace("p00.parquet", "v01.json")
    (seal,) = gone
    said = f"{name}: seal {seal.number} of {seal.tailer.hex()} is in no part of the hour, and {verdict} names it"
    assert said in texts(found)
    assert found.verdict.state != COMPLETE


def test_an_altered_seal(objects: MemoryObjects, tmp_path: Path) -> None:
    name = part_names(objects)[0]

    def alter(footer: Footer) -> None:
        data = bytearray(footer.seals[1])
        data[120] ^= 1
        footer.seals[1] = bytes(data)

    rewrite(objects, name, tmp_path, footer=alter)
    assert any(text.startswith(f"{name}: seal 1 of its footer: ") for text in texts(look(objects)))


def test_an_added_seal(objects: MemoryObjects, tmp_path: Path) -> None:
    """A good one of the same key: two chains."""
    name = part_names(objects)[0]
    forged = Chain(FakeTailer("web1")).seal([], until=BUCKET + 300)
    rewrite(objects, name, tmp_path, footer=lambda footer: footer.seals.append(forged.data))
    assert look(objects).verdict.state == CONFLICTING


def test_a_seal_of_somebody_else_and_keys_that_are_known(objects: MemoryObjects, tmp_path: Path) -> None:
    name = part_names(objects)[0]
    forged = Chain(FakeTailer("intruder")).seal([], until=BUCKET + 300, goodbye=True)
    rewrite(objects, name, tmp_path, footer=lambda footer: footer.seals.append(forged.data))
    verdict = str(name).replace("p00.parquet", "v01.json")
    tailer = node_key("intruder").node.hex()
    assert f"{name}: seal 0 of {tailer} was not there when {verdict} was written" in texts(look(objects))
    keys = {node_key(who).public for who in ("web1", "web2", "porter")}
    assert any("not among the known keys" in text for text in texts(look(objects, keys)))


def test_an_altered_verdict(objects: MemoryObjects) -> None:
    for name in [name for name in objects.held if name.endswith(".json")]:
        data = objects.held[name]
        said = json.loads(data)
        for text in (
            data.replace(b'"state": "complete"', b'"state": "unknown"'),
            data.replace(b" ", b"  ", 1),
            data[:-40],
            b"{}",
            json.dumps({**said, "from": 0}, indent=1, sort_keys=True).encode() + b"\n",
        ):
            objects.held[name] = text
            named = {damage.name for damage in look(objects).damage}
            assert named == {name}
        objects.held[name] = data


def test_a_verdict_that_somebody_else_has_signed(objects: MemoryObjects) -> None:
    """Without known keys it shows by the verdicts that name the true one; with them by itself."""
    names = sorted(name for name in objects.held if name.endswith(".json"))
    for name in names:
        data = objects.held[name]
        said = {key: value for key, value in json.loads(data).items() if key not in ("porter", "signature")}
        objects.held[name] = signed({**said, "state": "unknown"}, node_key("intruder"))
        keys = {node_key(who).public for who in ("web1", "web2", "porter")}
        assert {damage.name for damage in look(objects, keys).damage} == {name}
        if name != last_written(objects):
            assert {damage.name for damage in look(objects).damage} == {name}
        objects.held[name] = data


@pytest.mark.parametrize(("numbers", "said"), [([0, 1 << 62], "seals 3-"), ([5, 5], "not a porter's verdict")])
def test_a_verdict_that_names_more_seals_than_anybody_can_count(
    objects: MemoryObjects, numbers: list[int], said: str
) -> None:
    """Whoever signs what he likes must not keep an audit busy for ever, nor end it."""
    name = last_written(objects)
    verdict = {
        key: value for key, value in json.loads(objects.held[name]).items() if key not in ("porter", "signature")
    }
    verdict["seals"][0]["numbers"] = numbers
    objects.held[name] = signed(verdict, node_key("intruder"))
    assert any(said in text for text in texts(look(objects))), texts(look(objects))


def test_a_dropped_verdict(objects: MemoryObjects) -> None:
    for name in [name for name in objects.held if name.endswith(".json")]:
        data = objects.held.pop(name)
        found = look(objects)
        assert [damage.name for damage in found.damage] == [name] or found.troubles
        objects.held[name] = data


def test_a_removed_part(objects: MemoryObjects) -> None:
    for name in map(str, part_names(objects)):
        data = objects.held.pop(name)
        found = look(objects)
        assert name in {damage.name for damage in found.damage}
        assert {damage.name for damage in found.damage} <= {name, *needing(name)}
        assert found.verdict.state != COMPLETE
        objects.held[name] = data


def test_a_truncated_part(objects: MemoryObjects) -> None:
    for name in map(str, part_names(objects)):
        data = objects.held[name]
        for keep in (0, 100, len(data) // 2, len(data) - 1):
            objects.held[name] = data[:keep]
            found = look(objects)
            assert name in {damage.name for damage in found.damage}
            assert {damage.name for damage in found.damage} <= {name, *needing(name)}
            assert found.verdict.state != COMPLETE
        objects.held[name] = data


def test_a_part_that_was_added(objects: MemoryObjects) -> None:
    names = part_names(objects)
    more = names[-1]._replace(number=names[-1].number + 1)
    objects.held[str(more)] = objects.held[str(names[-1])]
    assert any(str(more) in text for text in look(objects).troubles)


@settings(max_examples=20)
@given(st.data())
def test_any_changed_byte_of_any_object_is_named(whole: Whole, data: st.DataObject) -> None:
    """Wherever it is, and whether it can be read by then or not."""
    objects = MemoryObjects()
    objects.held = dict(whole[0].held)
    name = data.draw(st.sampled_from(sorted(one for one in objects.held if "/claims/" not in one)))
    spoilt = bytearray(objects.held[name])
    at = data.draw(st.integers(0, len(spoilt) - 1))
    if data.draw(st.booleans()):
        spoilt[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del spoilt[at:]
    objects.held[name] = bytes(spoilt)
    named = {damage.name for damage in look(objects).damage}
    assert name in named
    assert named <= {name, *needing(name)}


def needing(name: str) -> set[str]:
    """Parts whose dropped duplicates have their bytes in this one."""
    return {name.replace("22.p00", "23.p00")}


def last_written(objects: MemoryObjects) -> str:
    """The verdict that no other names."""
    verdicts = {name: opened(name, data).verdicts for name, data in objects.held.items() if name.endswith(".json")}
    (last,) = set(verdicts) - {other for named in verdicts.values() for other in named}
    return last
