"""The fuzzer: damages samples for so many seconds, and says which bytes a target can't stand.

Everything is drawn from a seed. What is done to a sample: bits and bytes are changed, small and large numbers are
written over it, stretches are cut, repeated, moved, or taken from another sample; sometimes several of these.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tests.fuzz.targets import Target

SLOW_S = 1.0  # a check of 64 KiB takes milliseconds; a busy machine is no finding
NUMBERS = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    bytes(8),
    b"\xdd\xff\xff\xff\xff",
]
SIZE_MAX = 1 << 16


class FoundError(Exception):
    """A target can't stand some bytes: which, and how to see it again."""


def damaged(draw: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples, no longer what it was."""
    data = bytearray(draw.choice(samples))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        size = min(len(data) - at, draw.choice((1, 1, 2, 4, 16, 200)))
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + size] = draw.randbytes(size)
            case 2:
                number = draw.choice(NUMBERS)
                data[at : at + len(number)] = number
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size] * draw.choice((1, 2, 9))
            case 5:
                other = draw.choice(samples)
                start = draw.randrange(len(other) + 1)
                data[at:] = other[start:]
            case _:
                del data[at:]
    return bytes(data[:SIZE_MAX])


def fuzz(target: Target, seed: int, seconds: float) -> int:
    """How many inputs a target stood in so long. FoundError with the first that it didn't."""
    draw = random.Random(f"{target.name} {seed}")
    for sample in target.samples:
        _try(target, seed, 0, sample)
    count, begin = 0, time.monotonic()
    while time.monotonic() < begin + seconds:
        count += 1
        _try(target, seed, count, damaged(draw, target.samples))
    return count


def _try(target: Target, seed: int, number: int, data: bytes) -> None:
    begin = time.thread_time()
    try:
        target.check(data)
    except Exception as error:
        where = f"{target.name}, seed {seed}, input {number}: {data.hex()}"
        raise FoundError(f"{type(error).__name__}: {error}\n{where}") from error
    took_s = time.thread_time() - begin
    if took_s > SLOW_S:
        raise FoundError(f"{target.name}, seed {seed}, input {number} took {took_s:.1f} s: {data.hex()}")
