"""One heap for all threads: what glibc maps for others is not there; and garbage that goes soon."""

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


GARBAGE = """
import gc, sys
from collections import deque
import buck.commands, tailer.commands
from service.heap import settle
if "settle" in sys.argv:
    settle(2000)

class Link:  # refers to itself, as a link's tasks do
    def __init__(self):
        self.tasks = [self]

alive = deque(maxlen=2000)
for _ in range(30_000):
    alive.append(Link())
print(sum(type(one) is Link for one in gc.get_objects()) - len(alive))
"""


def garbage(*words: str) -> int:
    """How many objects that nobody has any more, of thirty thousand that lived for a while, are still there."""
    done = subprocess.run([sys.executable, "-c", GARBAGE, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_garbage_that_lived_for_a_while_goes_soon() -> None:
    assert garbage("settle") < 5_000
    assert garbage() > 10_000, "without it, it waits until there is a quarter as much as was imported"
