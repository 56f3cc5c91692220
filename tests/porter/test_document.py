"""What an archive's small JSON objects may say: whatever else stands there is named, and ends nobody."""

from __future__ import annotations

import pytest
import trio

from porter.catalog import PartName
from porter.claims import Claims
from porter.document import opened
from porter.objects import MemoryObjects
from porter.roster import Seen
from protocol.errors import FormatError
from service.machine import RealMachine

PART = PartName("e", 3600, "p", 0)
ODD = {
    "nested 100,000 deep": b"[" * 100_000,
    "nested in a member": b'{"part": "x", "size": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of 5,000 digits": b'{"part": "PART", "size": ' + b"9" * 5000 + b"}",
    "a number beyond floats": b'{"part": "PART", "size": 1e400}',
    "infinity": b'{"part": "PART", "size": -Infinity}',
    "no number": b'{"part": "PART", "size": NaN}',
    "the same key twice": b'{"part": "PART", "size": 1, "size": -1}',
    "half a surrogate": b'{"part": "\\ud800", "size": 1}',
    "NUL in a key": b'{"pa\\u0000rt": "PART", "size": 1}',
    "NUL in the text": b'{"part"\0: 1}',
    "no UTF-8": b'{"part": "\xff\xfe"}',
    "a list": b"[1]",
    "a number": b"1",
    "nothing": b"",
    "members of other kinds": b'{"part": {"a": 1}, "size": [1], "roster": [[1]], "retired": [1], "porter": 1}',
    "lists of what is none": b'{"roster": 1e400, "retired": null, "parts": 1}',
    "a roster of infinities": b'{"roster": [{"tailer": "", "host": "", "since": 1e400}], "retired": []}',
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
async def test_A17_odd_json_is_named_and_ends_nobody(data: bytes, autojump_clock: trio.testing.MockClock) -> None:
    data = data.replace(b"PART", str(PART).encode())
    with pytest.raises(FormatError, match="not a porter's verdict"):
        opened("e/1.json", data)
    seen = Seen()
    seen.add_verdict("e/1.json", "e", data)
    assert len(seen.troubles) == 1
    objects = MemoryObjects()

    async def put(name: str, content: bytes) -> None:
        objects.held.setdefault(name, content)

    async def stop(part: PartName) -> None:
        raise AssertionError(part)

    claims = Claims(RealMachine(), objects, "e", put, stop)
    await claims.alone(PART, 10)
    claim = next(name for name in objects.held if "/claims/" in name)
    objects.held[claim] = data
    with pytest.raises(FormatError, match="claim"):
        await Claims(RealMachine(), objects, "e", put, stop).alone(PART, 10)
