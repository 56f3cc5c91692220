"""One heap for all threads: what glibc maps for others is not there."""

import subprocess
import sys

import pytest

HEAP = 64 << 20  # glibc reserves so much for each heap but the first, at a multiple of it
PROGRAM = """
import ctypes, sys, threading
from service.heap import share_heap
if "share" in sys.argv and not share_heap():
    sys.exit("no glibc")
libc = ctypes.CDLL(None)
threads = [threading.Thread(target=libc.malloc, args=(1000,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
rows = [line.split()[0].split("-") for line in open("/proc/self/maps")]
print(sum(int(begin, 16) % %d == 0 for begin, _ in rows))
""".replace("%d", str(HEAP))


def heaps(*words: str) -> int:
    """How many heaps of threads a process has."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    if "no glibc" in done.stderr:
        pytest.skip("this C library has no such switch")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_threads_share_one_heap() -> None:
    assert heaps("share") == 0
    assert heaps() > 0, "without it they have their own"
