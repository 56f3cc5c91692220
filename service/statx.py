"""A file's birth time, which Python 3.11 can't ask for: statx(2) called through ctypes.

One call answers everything a `Stat` holds, so it replaces `os.stat` rather than adding to it. Where the C library or
the kernel (or a container's seccomp filter) has no statx, `os.stat` answers and the birth time is 0, "unknown"; so it
is on file systems that don't keep one. Nothing else of statx is used.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
BASIC_STATS, BTIME = 0x7FF, 0x800
NS = 1_000_000_000

# struct statx up to stx_dev_minor: mask . . nlink . . mode . ino size . . atime btime ctime mtime rdev dev
_LAYOUT = struct.Struct("=I12xI8xH2xQQ16x16xqI4x16xqI4x8xII")
_BUFFER_SIZE = 256

_libc = ctypes.CDLL(None, use_errno=True)
_statx = getattr(_libc, "statx", None)
if _statx is not None:
    _statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)


class Stat(NamedTuple):
    """What one look at a file tells. `birth_ns` is 0 where the file system doesn't say."""

    size: int
    mtime_ns: int
    inode: int
    device: int
    birth_ns: int
    mode: int
    links: int


def stat_path(path: str | bytes, follow: bool = True) -> Stat:
    """Look at a path. Raises FileNotFoundError and its siblings, as os.stat does."""
    flags = 0 if follow else AT_SYMLINK_NOFOLLOW
    found = _call(AT_FDCWD, os.fsencode(path), flags, path)
    return found or _plain(os.stat(path, follow_symlinks=follow))


def stat_fd(fd: int) -> Stat:
    """Look at an open file."""
    return _call(fd, b"", AT_EMPTY_PATH, None) or _plain(os.fstat(fd))


def _call(fd: int, path: bytes, flags: int, shown: str | bytes | None) -> Stat | None:
    """None where statx is not to be had, so that the caller falls back."""
    if _statx is None or b"\0" in path:
        return None
    buffer = ctypes.create_string_buffer(_BUFFER_SIZE)
    if _statx(fd, path, flags, BASIC_STATS | BTIME, buffer):
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EPERM):
            return None
        raise OSError(code, os.strerror(code), shown)
    mask, links, mode, inode, size, birth, birth_ns, mtime, mtime_ns, major, minor = _LAYOUT.unpack_from(buffer)
    born = birth * NS + birth_ns if mask & BTIME else 0
    return Stat(size, mtime * NS + mtime_ns, inode, os.makedev(major, minor), born, mode, links)


def _plain(found: os.stat_result) -> Stat:
    return Stat(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev, 0, found.st_mode, found.st_nlink)
