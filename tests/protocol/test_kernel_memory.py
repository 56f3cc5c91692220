"""The compiled kernel frees its memory once, whoever lets go first: builder, views, or the garbage collector."""

import subprocess
import sys

import pytest

pytest.importorskip("protocol._kernel", reason="only with the compiled kernel")

CYCLE = """
import gc
from protocol._kernel import Builder, Stream, encode

for _ in range(50):
    builder = Builder()
    builder.open(0, 1 << 63, True)
    encode(Stream(), 0, b"a line\\n" * 5000, 0, 0, 1, True, [builder], 0, 0)
    views = builder.finish() if {keep} else builder.finish() and None
    ring = [builder]
    ring.append(ring)
    del builder, ring
    gc.collect()
    assert views is None or bytes(views.lines[:6]) == b"a line"
"""


@pytest.mark.parametrize("keep", [False, True], ids=["views gone", "views kept"])
def test_a_builder_in_a_cycle_of_garbage_is_freed_once(keep: bool) -> None:
    """In a process of its own: freeing twice ends it."""
    done = subprocess.run([sys.executable, "-c", CYCLE.format(keep=keep)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
