"""The quick tier of `make fuzz`: each target for a moment; and the fuzzer finds what is there to be found."""

from __future__ import annotations

import pytest

from tests.fuzz.damage import FoundError, fuzz
from tests.fuzz.targets import Target, targets

SECONDS = 2.0


@pytest.mark.slow
@pytest.mark.parametrize("target", list(targets()), ids=lambda target: target.name)
def test_whatever_comes_is_read_or_refused(target: Target) -> None:
    assert fuzz(target, 1, SECONDS) > 10


def test_what_breaks_on_some_bytes_is_found_and_can_be_seen_again() -> None:
    def check(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("not a documented error")

    with pytest.raises(FoundError, match=r"KeyError.*\n.*seed 7, input") as first:
        fuzz(Target("a test", [bytes(20)], check), 7, 5.0)
    with pytest.raises(FoundError) as again:
        fuzz(Target("a test", [bytes(20)], check), 7, 5.0)
    assert str(first.value) == str(again.value)
