"""Both kernels give the same for everything there is: nasty lines, real logs, mutated ones, however they are cut.

`HYPOTHESIS_PROFILE=fuzz` makes each of these some eighty times longer.
"""

import random
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from protocol import kernel as chosen
from protocol.errors import ColumnsError
from tests.protocol.gathering import (
    ALWAYS,
    ARRIVAL,
    HINT,
    NOON,
    SECOND,
    Gatherer,
    Twin,
    compiled,
    cut,
    events,
    gather,
    kernels,
    mutated,
    nasty,
    seeds,
)

both = pytest.mark.skipif(compiled is None, reason="the compiled kernel is absent")


def both_ways(data: bytes, r: random.Random, **more: Any) -> None:
    """Both kernels agree, however the bytes are cut, and the bytes come back."""
    whole = gather(Twin, [data], **more)
    assert b"".join(event.raw for event in events(whole[0]).get(0, [])) == data
    assert gather(Twin, cut(data, r), **more) == whole
    if compiled:
        assert gather(compiled, [data], **more) == whole
        assert gather(compiled, cut(data, r), **more) == whole
        for packet in whole[0]:
            assert packet.rows(compiled).render() == packet.rows(Twin).render()


@given(seeds)
def test_nasty_lines_are_the_same_in_both_kernels_however_they_are_cut(seed: int) -> None:
    r = random.Random(seed)
    more = r.choice(({}, {"raw_max": 500}, {"width": 60 * SECOND, "oldest": NOON - 40 * 86400 * SECOND, "builders": 3}))
    both_ways(
        nasty(r, r.choice((5, 40, 40, 1500)) if seed % 50 == 0 else 30),
        r,
        hint=r.choice((0, 1, HINT, HINT, HINT)),
        **more,
    )


@given(seeds)
def test_mutated_slices_of_real_logs_are_the_same_in_both_kernels(shared_data: Path, seed: int) -> None:
    r = random.Random(seed)
    path = r.choice(real_files(shared_data))
    width = r.choice((ALWAYS, 300 * SECOND))
    both_ways(mutated(contents(path), r), r, width=width)


@cache
def real_files(shared_data: Path) -> list[Path]:
    """Every sample log."""
    found = sorted(path for path in (shared_data / "logs").rglob("*") if path.is_file())
    assert found
    return found


@lru_cache(64)
def contents(path: Path) -> bytes:
    """Its first part."""
    with path.open("rb") as file:
        return file.read(1 << 20)


@both
def test_both_kernels_give_the_same_packets_for_all_real_logs(shared_data: Path) -> None:
    for path in real_files(shared_data):
        data = path.read_bytes()[:300_000]
        assert gather(compiled, [data]) == gather(Twin, [data]), path


@pytest.mark.parametrize("kernel", [chosen])
def test_all_real_logs_come_back_byte_for_byte(kernel: Any, shared_data: Path) -> None:
    for path in real_files(shared_data):
        data = path.read_bytes()
        packets, _ = gather(kernel, [data])
        at = 0
        for packet in packets:
            back = packet.rows(kernel).render()
            assert data.startswith(back, at), path
            at += len(back)
        assert at == len(data), path


@given(seeds)
def test_several_streams_in_common_packets_are_each_as_if_alone(seed: int) -> None:
    r = random.Random(seed)
    more = {"width": 60 * SECOND, "oldest": NOON - 86400 * SECOND, "newest": NOON + 3600 * SECOND, "raw_max": 3000}
    texts = [nasty(r, 20) for _ in range(3)]
    kernel = r.choice([Twin, compiled or Twin])
    one = Gatherer(kernel, builders=3, **more)
    blocks: list[tuple[int, float, bytes, bool]] = []
    for handle, text in enumerate(texts):
        one.start(handle)
        pieces = cut(text, r)
        blocks.extend((handle, i / len(pieces), piece, i == len(pieces) - 1) for i, piece in enumerate(pieces))
    for handle, _, piece, final in sorted(blocks, key=lambda block: (block[1], block[0])):
        one.feed(handle, piece, final)
    found = events(one.finish())
    for handle, text in enumerate(texts):
        assert found.get(handle, []) == events(gather(Twin, [text])[0]).get(0, [])
        covered = sorted(one.fresh[handle])
        assert sum(end - first for first, end in covered) == len(text)


@given(seeds)
def test_a_stream_goes_on_from_its_state_as_if_never_stopped(seed: int) -> None:
    r = random.Random(seed)
    data = nasty(r, r.choice((30, 30, 1200)) if seed % 20 == 0 else 30)
    whole = events(gather(Twin, [data])[0])[0]
    stops = sorted(r.randrange(len(data) + 1) for _ in range(3))
    one = Gatherer(Twin)
    one.start(0)
    for a, b in zip([0, *stops], [*stops, len(data)], strict=True):
        one.feed(0, data[a:b], final=b == len(data))
        if r.random() < 0.7:
            state = one.streams[0].state()
            assert Twin.Stream(0, state).state() == state
            if compiled:
                assert compiled.Stream(0, state).state() == state
            one.start(0, 0, state)
    assert events(one.finish())[0] == whole


@kernels
def test_a_bad_state_is_refused(kernel: Any) -> None:
    stream = kernel.Stream(HINT)
    builder = kernel.Builder()
    builder.open(0, ALWAYS)
    kernel.encode(stream, 0, nasty(random.Random(1), 100), 0, 0, ARRIVAL, False, [builder], 0, ALWAYS)
    state = stream.state()
    assert kernel.Stream(0, state).state() == state
    for bad in (state[:-1], state + b"\0", state[:10], b"\2" + state[1:], state[:17] + b"\xff" + state[18:]):
        with pytest.raises(ColumnsError):
            kernel.Stream(0, bad)


@kernels
@given(seed=seeds)
def test_a_changed_state_is_refused_or_works(kernel: Any, seed: int) -> None:
    r = random.Random(seed)
    one = Gatherer(kernel)
    one.start(0)
    data = nasty(r, 20)
    one.feed(0, data)
    state = bytearray(one.streams[0].state())
    state[r.randrange(len(state))] = r.randrange(256)
    try:
        one.start(0, 0, bytes(state))
    except ColumnsError:
        return
    one.feed(0, nasty(r, 10), final=True)
    assert b"".join(event.raw for event in events(one.finish())[0]).startswith(data[:100])
