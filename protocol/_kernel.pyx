# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel, compiled: a block of raw log bytes -> columns, and columns -> bytes, with no Python object per line.

One pass, the GIL released. The rule that makes it simple: whatever is taken out of a line is ONE contiguous hole,
`[<pri>][1 ]time[ host app[pid]: ]`, and it is taken out only if it prints back as the very same bytes; otherwise the
line stays whole. `_kernel_py.py` does the same in Python and is held equal to this by tests; formats.py has the table
of the shapes of times that both read and print by, columns.py the order of the columns.

    _kernel_words.pxi     several bytes at once: what a call of the C library costs too much for
    _kernel_formats.pxi   one format: its C struct, reading and printing a time
    _kernel_in.pxi        Stream, Builder, encode: from blocks to columns
    _kernel_out.pxi       Rows: from columns back to bytes, every index checked
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int32_t as i32, int64_t as i64, uint8_t as u8, uint16_t as u16, uint32_t as u32, uint64_t as u64
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from protocol import columns as _columns
from protocol import formats as _formats
from protocol import learned as _learned
from protocol import limits as _limits
from protocol.errors import ColumnsError

cdef extern from "<string.h>" nogil:
    void *memmem(const void *, size_t, const void *, size_t)

ctypedef const u8 *text

cdef enum:
    F_CRLF = 1          # the flags of columns.py
    F_OPEN = 2
    F_PART = 4
    F_TIME = 8
    F_HOST = 16
    F_APP = 32
    F_PID = 64
    LINE_MAX = 65000    # the limits that size arrays: held equal to limits.py below
    FORMATS_MAX = 128
    NAMES_MAX = 255
    NAME_MAX = 255

assert (LINE_MAX, FORMATS_MAX, NAMES_MAX, NAME_MAX) == (
    _limits.LINE_MAX, _limits.FORMATS_MAX, _limits.DICTIONARY_MAX, _limits.NAME_MAX)
assert (F_CRLF, F_OPEN, F_PART, F_TIME, F_HOST, F_APP, F_PID) == (
    _columns.CRLF, _columns.OPEN, _columns.PART, _columns.TIME, _columns.HOST, _columns.APP, _columns.PID)

include "_kernel_words.pxi"
include "_kernel_formats.pxi"
include "_kernel_in.pxi"
include "_kernel_out.pxi"
