"""The worst lines that we could think of take the kernel no longer than others of their length."""

import time
from typing import Any

import pytest

from tests.protocol.gathering import Twin, compiled, gather

SIZE = 1 << 20
STAMP = b"2023-11-14T12:00:00."
WORST = {
    "digits": b"1",
    "digits apart": b"1 ",
    "digits and letters": b"1a",
    "a date that never ends": b"2023-11-14 ",
    "a month that never ends": b"Jan ",
    "a month and days": b"Jan 1 1 ",
    "dates one in another": b"2023-2023-",
    "hours and hours": b"12:12:",
    "signs of zones": b"+-",
    "fractions": b"0.",
    "blanks": b" ",
    "tabs": b"\t",
    "brackets that open": b"[",
    "brackets": b"[]",
    "priorities": b"<1>1 ",
    "colons": b"a:",
    "a name with its number": b"a[1",
    "quotes": b'"\\"',
    "ends of lines within": b"\r",
    "NUL": b"\0",
    "beyond ASCII": b"\xc3\xa4",
    "no UTF-8": b"\xff",
}
KERNELS = [pytest.param(Twin, 0.5, id="twin")] + ([pytest.param(compiled, 0.05, id="compiled")] if compiled else [])


def seconds(kernel: Any, data: bytes) -> float:
    """CPU time of one go, the best of three: other work on the host lengthens some."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        gather(kernel, [data])
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize("head", [b"", STAMP, b"<13>Nov 14 12:00:00 h a[1]: "], ids=["bare", "stamped", "syslog"])
@pytest.mark.parametrize("piece", WORST.values(), ids=WORST)
@pytest.mark.parametrize(("kernel", "most"), KERNELS)
def test_A18_a_megabyte_of_the_worst_takes_milliseconds(kernel: Any, most: float, piece: bytes, head: bytes) -> None:
    line = head + piece * (SIZE // len(piece))
    if seconds(kernel, line + b"\n") > most:
        many = (head + piece * (100 // len(piece)) + b"\n") * (SIZE // 100)
        pytest.fail(
            f"{seconds(kernel, line):.3f} s for a line of 1 MB, {seconds(kernel, many):.3f} s for many short ones"
        )
