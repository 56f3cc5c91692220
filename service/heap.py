"""One heap for all threads of the process.

glibc gives threads heaps of their own, up to eight a core, and each keeps what was ever in use there at the same time:
a process whose slow calls go to whichever thread is free grows for hours, for nothing. Threads here wait for devices or
compute for long within one call, and mostly hold Python's lock while they allocate: they hardly wait for each other.
"""

import ctypes

M_ARENA_MAX = -8  # <malloc.h>


def share_heap() -> bool:
    """Call it before the first thread is started. False where the C library has one heap anyway, or no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1
