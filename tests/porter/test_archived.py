"""The archive as a source: what was put comes back, and what was changed never passes for what was put."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from porter import hour
from porter.archived import Archive
from porter.commands import main
from porter.objects import FolderObjects, MemoryObjects, S3Objects
from porter.source import Scope
from porter.trie import Limit
from protocol.errors import FormatError
from service.machine import RealMachine
from tests.porter.archiving import archive, copy, lines, names, scanned, spread, wrong
from tests.porter.fleet import BUCKET, ENV, FakeTailer, bucks_of, lines_of, stream_of
from tests.porter.sealing import Chain
from tests.porter.test_objects import S3_OPTIONS, s3_endpoint

__all__ = ["s3_endpoint"]  # a fixture

FILES = {b"/a": lines_of(0, 3000), b"/b": lines_of(5000, 3000), b"/odd\xff name": b"caf\xe9\r\n\0\n\nno end"}


async def one_hour(objects: MemoryObjects | FolderObjects | S3Objects) -> None:
    """Some files, archived and sealed."""
    tailer, bucks = FakeTailer(), bucks_of(2)
    tailer.read_many([(path, raw, 0, None) for path, raw in FILES.items()])
    tailer.read(b"/empty", b"")
    spread(bucks, tailer)
    bucks[0].seals.append(Chain(tailer).seal(tailer.packets, until=BUCKET + 7200, goodbye=True).data)
    await archive(bucks, objects)


async def test_from_and_back_to_s3_with_ranged_reads(s3_endpoint: str) -> None:
    options = {"endpoint_url": s3_endpoint, **S3_OPTIONS}
    objects = S3Objects("archive-of-logs", "some/prefix", options)
    objects.client.create_bucket(Bucket="archive-of-logs")
    await one_hour(objects)
    for path, raw in FILES.items():
        assert (await copy(objects, path))[0] == raw
    assert await wrong(objects) == []
    assert names(objects) == ["22.p00.parquet", "22.v00.json"]


async def test_names_and_empty_files_are_known() -> None:
    objects = MemoryObjects()
    await one_hour(objects)
    with Archive(RealMachine(), objects, ENV) as held:
        assert set(await held.names()) == {(b"web1", path) for path in [*FILES, b"/empty"]}
    data, copied = await copy(objects, b"/empty")
    assert (data, copied.size) == (b"", 0)


async def test_a_stream_is_read_alone_or_with_its_neighbours() -> None:
    objects, tailer, bucks = MemoryObjects(), FakeTailer(), bucks_of(1)
    raw = {number: lines_of(number * 100, 50) for number in range(30)}
    for number, data in raw.items():
        tailer.read(b"/a%d" % number, data, stream=stream_of(f"/a{number}"))
    spread(bucks, tailer)
    await archive(bucks, objects)
    for number in (0, 7, 29):
        assert (await copy(objects, b"/a%d" % number))[0] == raw[number]
    some = await scanned(objects, Scope(paths=[b"/a3", b"/a9"]))
    assert {piece.span.path: piece.render() for piece in some} == {b"/a3": raw[3], b"/a9": raw[9]}


async def test_a_changed_byte_is_noticed_wherever_it_is_or_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hour, "LIMIT", Limit(2000, 1 << 20))
    objects = MemoryObjects()
    await one_hour(objects)
    name = next(name for name in objects.held if name.endswith(".parquet"))
    whole, expected = objects.held[name], await lines(objects)
    chance, noticed = random.Random(3), 0
    for _ in range(150):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        objects.held[name] = bytes(data)
        found, said = await attempt(objects)
        assert found == expected or (name in said and "\n" not in said)
        noticed += bool(said)
    assert noticed > 100


async def attempt(objects: MemoryObjects) -> tuple[list[bytes], str]:
    """All lines, or what was said."""
    try:
        return await lines(objects), ""
    except FormatError as error:
        return [], str(error)


@pytest.mark.parametrize("keep", [0, 3, 100, -8, -1])
async def test_a_truncated_object_is_named(keep: int) -> None:
    objects = MemoryObjects()
    await one_hour(objects)
    name = next(name for name in objects.held if name.endswith(".parquet"))
    objects.held[name] = objects.held[name][:keep]
    with pytest.raises(FormatError, match=r"22\.p00\.parquet.*changed"):
        await lines(objects)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """An archive in a folder; the tests run commands on it, outside of trio."""
    trio.run(one_hour, FolderObjects(tmp_path / "archive"))
    return tmp_path / "archive"


def run(folder: Path, *arguments: str) -> Result:
    """A command on an archive alone."""
    more = ("--archive", str(folder), "--env", ENV, "--key", str(folder.parent / "key"))
    return CliRunner().invoke(main, [*arguments, *more])


@pytest.mark.parametrize("command", [("cat", "web1", "/a"), ("grep", "line"), ("audit", "--deep")])
@pytest.mark.parametrize("how", ["cut", "changed"])
def test_commands_name_an_object_that_is_not_what_it_was(spoilt: Path, command: tuple[str, ...], how: str) -> None:
    result = run(spoilt, *command)
    assert result.exit_code == 0, result.stderr
    (part,) = spoilt.rglob("*.parquet")
    data = bytearray(part.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    else:
        at = data.index(b"line") if b"line" in data[: len(data) // 2] else 1000
        data[at] ^= 1
    part.chmod(0o644)
    part.write_bytes(data)
    result = run(spoilt, *command)
    assert result.exit_code == 1
    if command[0] == "audit":  # it goes on, and names all that it finds
        assert part.name in result.stdout
        return
    assert result.stderr.count("\n") == 1
    assert part.name in result.stderr
