"""One heap for all threads of the process, and no garbage that waits for hours.

glibc gives threads heaps of their own, up to eight a core, and each keeps what was ever in use there at the same time:
a process whose slow calls go to whichever thread is free grows for hours, for nothing. Threads here wait for devices or
compute for long within one call, and mostly hold Python's lock while they allocate: they hardly wait for each other.
"""

import ctypes
import gc

M_ARENA_MAX = -8  # <malloc.h>


def share_heap() -> bool:
    """Call it before the first thread is started. False where the C library has one heap anyway, or no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1


def settle(collect_every: int) -> None:
    """Call it when all is imported: what is there now lasts as long as the process, and is never looked at again.

    Else what was alive for some seconds, and refers to itself (a link, its tasks and their scopes), would wait for the
    collector until there are 70,000 objects more than before, and a quarter of all that was imported: for an hour, a
    little more memory each second. Now it goes when there are some times `collect_every` more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_every, 1, 1)
