# Rows: from columns back to bytes. What a Rows is and what its methods promise is told in _kernel_py_out.py, its twin.
#
# `decode` and `from_arrays` fill flat arrays, one value a row; `measure` checks each row against the tables of formats
# and names and finds how long its line was. Nothing before `measure` is trusted, everything after it is: `put_row`
# prints without looking. A packet may come from a stolen key, so each read of a column is held against its end.
#
# The arrays lie in one bytes object, so that a memoryview handed out keeps them alive by itself.

cdef extern from "Python.h":
    ctypedef struct PyObject
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *)
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    void Py_DECREF "Py_DECREF"(PyObject *)

from array import array as _new_array
from functools import lru_cache as _lru_cache

cdef enum:
    WIDE = 65535            # columns.WIDE_NONE: no value, and one more than the largest index
    NARROW = 255            # columns.NONE
    RAW_MAX = LINE_MAX + 2  # a line and its CR LF
    SLACK = 64              # put_row may write so far beyond the row it prints
    HOLE_MAX = 640          # <191>1, a time, two names, a pid, and what stands between them

assert (WIDE, NARROW) == (_columns.WIDE_NONE, _columns.NONE)

cdef i64 POINT_MAX = _columns.POINT_MAX
cdef i64 PID_MAX = _columns.PID_MAX
cdef int PRI_MAX = _columns.PRI_MAX
cdef u64 UNITS = _limits.POINT_HZ
cdef u64 POINT_LOW = _formats.SECONDS_MIN * _limits.POINT_HZ     # of a time that stands in a line
cdef u64 POINT_END = _formats.SECONDS_END * _limits.POINT_HZ
cdef u64 EPOCH_LOW = 1_000_000_000 * _limits.POINT_HZ           # the first of ten digits
cdef i64 DIFFERENCE_MAX = <i64>1 << 62
cdef Py_ssize_t TEXT_MAX = (1 << 31) - 1
cdef u8[256] FLAGS_OK
cdef u8[200] PAIRS              # "00" to "99"
cdef u8[256] LOWER

def _load_tables():
    for i in range(256):
        FLAGS_OK[i] = _columns.FLAGS_OK[i]
        LOWER[i] = i + 32 if 65 <= i <= 90 else i
    for i in range(100):
        PAIRS[2 * i], PAIRS[2 * i + 1] = 48 + i // 10, 48 + i % 10
_load_tables()

cdef enum Wrong:
    FINE, ENDS, GOES_ON, BAD_LINES, BAD_FLAGS, BAD_FORMAT, BAD_NUMBER, BAD_POINT, BAD_TIME, BAD_PRI, BAD_HOST, BAD_APP
    BAD_PID, NO_ANCHOR, BAD_SIZE, BAD_RUN, BAD_EDGES, HAS_LF, NO_OFFSET

_WRONG = (
    "",
    "a column ends before its rows",
    "a column goes on after its last row",
    "lines: not as many as there are events",
    "flags that can't be",
    "a format that isn't in the table",
    "a number of more than 64 bits",
    "a point outside of time",
    "a time that its format can't write",
    "a priority beyond 191",
    "a host that isn't in the table",
    "an application that isn't in the table",
    "a process number out of range",
    "a row without the anchor of its format",
    "a line of a size that can't be",
    "a run of another size than its rows",
    "offsets of texts that step back or lead outside",
    "a line feed in a line",
    "a row that has no offset",
)

cdef int check(Wrong wrong) except -1:
    if wrong != FINE:
        raise ColumnsError(_WRONG[<int>wrong])
    return 0

cdef struct Name:
    text data
    Py_ssize_t size

cdef struct RunOf:
    i64 first, end, start, count
    u16 stream

@_lru_cache(maxsize=1024)
def _packed_format(given):
    """The C struct's bytes; checking a format costs more than reading a small packet."""
    cdef Format f
    load_format(&f, given)
    return (<char *>&f)[:sizeof(Format)]

# ---------------------------------------------------------------- printing

cdef inline u8 *put_pair(u8 *o, u32 v) noexcept nogil:
    memcpy(o, PAIRS + 2 * v, 2)
    return o + 2

cdef inline void put_eight(u8 *o, u32 v) noexcept nogil:
    cdef u32 high = v // 10000, low = v % 10000
    put_pair(o, high // 100)
    put_pair(o + 2, high % 100)
    put_pair(o + 4, low // 100)
    put_pair(o + 6, low % 100)

cdef inline int digits_of(u32 v) noexcept nogil:
    """Of a number of at most nine digits."""
    if v < 100000:
        if v < 100:
            return 1 if v < 10 else 2
        return 3 if v < 1000 else 4 if v < 10000 else 5
    if v < 10000000:
        return 6 if v < 1000000 else 7
    return 8 if v < 100000000 else 9

cdef inline u8 *put_point(u8 *o, const Format *f, u64 point, Clock *clock) noexcept nogil:
    """`put_time` of a point that `measure` found printable, without a division by anything that varies."""
    cdef u64 seconds = point // 100000000U, local, minute
    cdef u32 fraction = <u32>(point - seconds * 100000000U)
    local = seconds + <u64><i64>f.offset
    if f.kind == EPOCH:
        o = put_pair(o, <u32>(local // 100000000))
        put_eight(o, <u32>(local % 100000000))
        o += 8
    else:
        minute = local // 60
        if <i64>minute != clock.minute or f.kind != clock.kind or f.sep != clock.sep:
            print_minute(clock, f, <i64>minute)
            clock.minute, clock.kind, clock.sep = <i64>minute, f.kind, f.sep
        memcpy(o, clock.text, MINUTE_MAX)
        o = put_pair(o + clock.size, <u32>(local - minute * 60))
    if f.mark:
        o[0] = f.mark
        o += 1
    if f.digits:
        put_eight(o, fraction)
        o += f.digits
    memcpy(o, f.zone, ZONE_MAX)
    return o + f.zone_out

include "_kernel_find.pxi"

# ---------------------------------------------------------------- the rows

cdef class Rows:
    """Events decoded; see _kernel_py_out.py."""

    cdef readonly Py_ssize_t count
    cdef readonly u64 raw
    cdef readonly tuple formats, shn_names, app_names
    cdef bytes body                     # what line_data points into
    cdef bytes cut                      # `lines`, once it was asked for
    cdef bytes store                    # what the arrays lie in
    cdef text line_data
    cdef Py_ssize_t line_size
    cdef bint dense                     # texts lie one behind the other, nothing between them
    cdef Format *forms
    cdef Name *hosts
    cdef Name *apps
    cdef Py_ssize_t form_count, host_count, app_count
    cdef u64 *points_
    cdef u64 *offsets_
    cdef u32 *starts_
    cdef u32 *sizes_
    cdef u32 *raws_
    cdef i32 *pid_
    cdef u16 *at_
    cdef u16 *format_
    cdef u16 *shn_
    cdef u16 *app_
    cdef u16 *stream_
    cdef u8 *flags_
    cdef u8 *pri_

    def __dealloc__(self):
        free(self.forms)
        free(self.hosts)
        free(self.apps)

    cdef int make_room(self, Py_ssize_t count) except -1:
        """The arrays; wide ones first, so that each is aligned."""
        self.count = count
        self.store = PyBytes_FromStringAndSize(NULL, count * 44 + 8)
        cdef u8 *p = <u8 *>PyBytes_AS_STRING(self.store)
        self.points_ = <u64 *>p
        self.offsets_ = self.points_ + count
        self.starts_ = <u32 *>(self.offsets_ + count)
        self.sizes_ = self.starts_ + count + 1
        self.raws_ = self.sizes_ + count
        self.pid_ = <i32 *>(self.raws_ + count)
        self.at_ = <u16 *>(self.pid_ + count)
        self.format_ = self.at_ + count
        self.shn_ = self.format_ + count
        self.app_ = self.shn_ + count
        self.stream_ = self.app_ + count
        self.flags_ = <u8 *>(self.stream_ + count)
        self.pri_ = self.flags_ + count
        return 0

    cdef int load_tables(self, formats, Py_ssize_t format_max, shn, app, Py_ssize_t most) except -1:
        cdef Py_ssize_t i
        if len(formats) > format_max:
            raise ColumnsError(f"{len(formats)} formats, at most {format_max}")
        self.shn_names, self.app_names = _columns.check_names(shn, most), _columns.check_names(app, most)
        packed = [_packed_format(_formats.Format(*form)) for form in formats]
        self.formats = tuple([_formats.Format(*form) for form in formats])
        self.form_count, self.host_count, self.app_count = len(packed), len(self.shn_names), len(self.app_names)
        self.forms = <Format *>malloc(sizeof(Format) * (self.form_count + 1))
        self.hosts = <Name *>malloc(sizeof(Name) * (self.host_count + 1))
        self.apps = <Name *>malloc(sizeof(Name) * (self.app_count + 1))
        if self.forms == NULL or self.hosts == NULL or self.apps == NULL:
            raise MemoryError
        for i in range(self.form_count):
            memcpy(&self.forms[i], PyBytes_AS_STRING(packed[i]), sizeof(Format))
        for i in range(self.host_count):
            self.hosts[i].data, self.hosts[i].size = <text>PyBytes_AS_STRING(self.shn_names[i]), len(self.shn_names[i])
        for i in range(self.app_count):
            self.apps[i].data, self.apps[i].size = <text>PyBytes_AS_STRING(self.app_names[i]), len(self.app_names[i])
        return 0

    # ------------------------------------------------------------ from a packet

    @classmethod
    def decode(cls, body, count, sizes, formats, shn, app, runs):
        """The rows of a packet's body, held against all that its header says. ColumnsError if they disagree."""
        cdef Rows rows = Rows()
        cdef bytes data = body if type(body) is bytes else bytes(body)
        cdef list edges = _columns.bounds(len(data), count, sizes)
        cdef list checked = _columns.check_runs(runs, count)
        cdef text base = <text>PyBytes_AS_STRING(data)
        cdef text[8] at
        cdef text[8] ends
        cdef Py_ssize_t i, n = len(checked)
        cdef Wrong wrong
        cdef RunOf *table
        rows.load_tables(formats, FORMATS_MAX, shn, app, NAMES_MAX)
        rows.make_room(count)
        for i in range(8):
            at[i], ends[i] = base + <Py_ssize_t>edges[i], base + <Py_ssize_t>edges[i + 1]
        rows.body, rows.line_data, rows.line_size = data, base, ends[0] - base
        memcpy(rows.flags_, at[1], rows.count)
        table = <RunOf *>malloc(sizeof(RunOf) * (n + 1))
        if table == NULL:
            raise MemoryError
        try:
            for i in range(n):
                table[i].stream, table[i].first, table[i].end, table[i].count, table[i].start = checked[i]
            with nogil:
                wrong = rows.split()
                if wrong == FINE:
                    wrong = rows.walk(at, ends, table, n)
                if wrong == FINE:
                    wrong = rows.measure(False)
                if wrong == FINE:
                    wrong = rows.put_offsets(table, n)
        finally:
            free(table)
        check(wrong)
        return rows

    cdef Wrong split(self) noexcept nogil:
        """Where each row's text is: one LF a row, and nothing after the last."""
        cdef text p = self.line_data, end = p + self.line_size, q
        cdef Py_ssize_t i
        for i in range(self.count):
            q = <text>memchr(p, 10, <size_t>(end - p)) if p < end else NULL
            if q == NULL:
                return BAD_LINES
            self.starts_[i] = <u32>(p - self.line_data)
            self.sizes_[i] = <u32>(q - p)
            p = q + 1
        self.starts_[self.count] = <u32>self.line_size
        return FINE if p == end else BAD_LINES

    cdef Wrong walk(self, text *at, text *ends, const RunOf *runs, Py_ssize_t n) noexcept nogil:
        """Reads the small columns side by side, row by row."""
        cdef i32[256] last_pid
        cdef Py_ssize_t k, row = 0, stop
        cdef Wrong wrong
        cdef i64 ticks = 0, ticks_max = 0
        cdef u32 scale = 0                      # of `ticks`; 0: there are none yet
        cdef i64 point
        cdef const Format *f
        cdef int flags
        memset(last_pid, 0, sizeof(last_pid))
        for k in range(n):
            point = runs[k].start
            scale = 0
            stop = row + <Py_ssize_t>runs[k].count
            while row < stop:
                flags = self.flags_[row]
                if not FLAGS_OK[flags]:
                    return BAD_FLAGS
                self.stream_[row] = runs[k].stream
                self.format_[row] = self.shn_[row] = self.app_[row] = WIDE
                self.pid_[row] = -1
                self.pri_[row] = NARROW
                if flags & F_TIME:
                    if at[2] >= ends[2]:
                        return ENDS
                    if at[2][0] >= self.form_count:
                        return BAD_FORMAT
                    f = &self.forms[at[2][0]]
                    self.format_[row] = at[2][0]
                    at[2] += 1
                    if f.scale != scale:
                        scale = f.scale
                        ticks, ticks_max = point // scale, POINT_MAX // scale
                    wrong = step(&at[3], ends[3], &ticks)
                    if wrong != FINE:
                        return wrong
                    if ticks > ticks_max:
                        return BAD_POINT
                    point = ticks * scale
                    wrong = self.walk_names(at, ends, row, flags, f.head, last_pid)
                    if wrong != FINE:
                        return wrong
                self.points_[row] = <u64>point
                row += 1
        for k in range(2, 8):
            if at[k] != ends[k]:
                return GOES_ON
        return FINE

    cdef inline Wrong walk_names(
            self, text *at, text *ends, Py_ssize_t row, int flags, int head, i32 *last_pid) noexcept nogil:
        cdef u64 v
        cdef i64 pid
        if head:
            if at[7] >= ends[7]:
                return ENDS
            self.pri_[row] = at[7][0]
            at[7] += 1
        if flags & F_HOST:
            if at[4] >= ends[4]:
                return ENDS
            self.shn_[row] = at[4][0]
            at[4] += 1
        if flags & F_APP:
            if at[5] >= ends[5]:
                return ENDS
            self.app_[row] = at[5][0]
            at[5] += 1
        if flags & F_PID:
            at[6] = get_varint(at[6], ends[6], &v)
            if at[6] == NULL:
                return BAD_NUMBER
            pid = unzigzag(v)
            if not -PID_MAX <= pid <= PID_MAX:
                return BAD_PID
            pid += last_pid[self.app_[row]]
            if not 0 <= pid <= PID_MAX:
                return BAD_PID
            self.pid_[row] = last_pid[self.app_[row]] = <i32>pid
        return FINE

    cdef Wrong put_offsets(self, const RunOf *runs, Py_ssize_t n) noexcept nogil:
        """A run's rows lie one behind the other, and fill it."""
        cdef Py_ssize_t k, row = 0, stop
        cdef u64 at
        for k in range(n):
            at = <u64>runs[k].first
            stop = row + <Py_ssize_t>runs[k].count
            while row < stop:
                self.offsets_[row] = at
                at += self.raws_[row]
                row += 1
            if at != <u64>runs[k].end:
                return BAD_RUN
        return FINE

    # ------------------------------------------------------------ from flat arrays

    @classmethod
    def from_arrays(cls, *, points, flags, format, formats, shn, shn_names, app, app_names, pid, pri,
                    lines, line_offsets, offsets, raw=b"", raw_offsets=None, stream=None):
        """The rows of an archive. Which buffers, of which types: see _kernel_py_out.py."""
        cdef Rows rows = Rows()
        cdef const u8[::1] given = _bytes_of(flags)
        cdef Py_ssize_t n = given.shape[0]
        cdef Wrong wrong
        rows.load_tables(formats, WIDE, shn_names, app_names, WIDE)
        rows.make_room(n)
        fill(rows.flags_, flags, n, 1)
        fill(rows.points_, points, n, 8)
        fill(rows.format_, format, n, 2)
        fill(rows.shn_, shn, n, 2)
        fill(rows.app_, app, n, 2)
        fill(rows.pid_, pid, n, 4)
        fill(rows.pri_, pri, n, 1)
        fill(rows.offsets_, offsets, n, 8)
        if stream is None:
            memset(rows.stream_, 0, n * 2)
        else:
            fill(rows.stream_, stream, n, 2)
        rows.take_texts(lines, line_offsets, raw, raw_offsets)
        with nogil:
            wrong = rows.clean()
            if wrong == FINE:
                wrong = rows.measure(True)
            if wrong == FINE:
                wrong = rows.follow()
        check(wrong)
        return rows

    cdef int take_texts(self, lines, line_offsets, raw, raw_offsets) except -1:
        """One text a row, of `raw` where it has bytes for the row, else of `lines`."""
        cdef const u8[::1] data = _bytes_of(lines), exact = _bytes_of(raw)
        cdef Py_ssize_t n = self.count, i, size, total = 0
        cdef bytes edge_store = PyBytes_FromStringAndSize(NULL, 8 * (n + 1))
        cdef i32 *edges = <i32 *>PyBytes_AS_STRING(edge_store)
        cdef i32 *exact_edges = edges + n + 1
        cdef text source
        cdef u8 *o
        check_edges(edges, line_offsets, n, data.shape[0])
        if raw_offsets is None:
            memset(exact_edges, 0, 4 * (n + 1))
        else:
            check_edges(exact_edges, raw_offsets, n, exact.shape[0])
        for i in range(n):
            size = exact_edges[i + 1] - exact_edges[i]
            self.sizes_[i] = <u32>(size if size else edges[i + 1] - edges[i])
            total += self.sizes_[i]
        if total > TEXT_MAX:
            raise ColumnsError("more than 2 GiB of lines")
        self.body = self.cut = PyBytes_FromStringAndSize(NULL, total)
        self.line_data, self.line_size, self.dense = <text>PyBytes_AS_STRING(self.body), total, True
        o = <u8 *>self.line_data
        with nogil:
            for i in range(n):
                self.starts_[i] = <u32>(o - self.line_data)
                if exact_edges[i + 1] > exact_edges[i]:
                    source = &exact[0] + exact_edges[i]
                elif self.sizes_[i]:
                    source = &data[0] + edges[i]
                else:
                    continue
                memcpy(o, source, self.sizes_[i])
                o += self.sizes_[i]
            self.starts_[n] = <u32>total
        return 0

    cdef Wrong clean(self) noexcept nogil:
        """Forgets what a row's flags don't call for, so that rows are the same wherever they come from."""
        cdef Py_ssize_t i
        cdef int flags
        if self.line_size and memchr(self.line_data, 10, <size_t>self.line_size) != NULL:
            return HAS_LF
        for i in range(self.count):
            flags = self.flags_[i]
            if not flags & F_TIME:
                self.format_[i] = WIDE
                self.pri_[i] = NARROW
            elif self.format_[i] >= self.form_count:
                return BAD_FORMAT
            elif not self.forms[self.format_[i]].head:
                self.pri_[i] = NARROW
            if not flags & F_HOST:
                self.shn_[i] = WIDE
            if not flags & F_APP:
                self.app_[i] = WIDE
            if not flags & F_PID:
                self.pid_[i] = -1
        return FINE

    cdef Wrong follow(self) noexcept nogil:
        """Fills the offsets that are the end of the row before."""
        cdef Py_ssize_t i
        cdef i64 offset
        for i in range(self.count):
            offset = <i64>self.offsets_[i]
            if offset == -1 and i and self.stream_[i] == self.stream_[i - 1]:
                offset = <i64>(self.offsets_[i - 1] + self.raws_[i - 1])
            if not 0 <= offset <= POINT_MAX:
                return NO_OFFSET
            self.offsets_[i] = <u64>offset
        return FINE

    # ------------------------------------------------------------ both end here

    cdef Wrong measure(self, bint foreign) noexcept nogil:
        """Checks each row against the tables, and finds where its hole is and how long its line was.

        foreign: the points were not counted in their format's unit, so that is checked too."""
        cdef Py_ssize_t i, size
        cdef const Format *f
        cdef text line, q
        cdef int flags
        cdef Wrong wrong
        self.raw = 0
        for i in range(self.count):
            flags = self.flags_[i]
            if not FLAGS_OK[flags]:
                return BAD_FLAGS
            size = <Py_ssize_t>self.sizes_[i] + (2 if flags & F_CRLF else 0 if flags & F_OPEN else 1)
            self.at_[i] = 0
            if flags & F_TIME:
                f = &self.forms[self.format_[i]]
                wrong = self.check_row(i, flags, f)
                if wrong != FINE:
                    return wrong
                if foreign and self.points_[i] % f.scale:
                    return BAD_TIME
                if size > RAW_MAX:
                    return BAD_SIZE
                if f.anchor_len:
                    line = self.line_data + self.starts_[i]
                    q = after_anchor(f, line, self.sizes_[i])
                    if q == NULL:
                        return NO_ANCHOR
                    self.at_[i] = <u16>(q - line)
                size += f.text_len + self.around(i, flags, f)
            if not 0 < size <= RAW_MAX:
                return BAD_SIZE
            self.raws_[i] = <u32>size
            self.raw += <u64>size
        return FINE

    cdef inline Wrong check_row(self, Py_ssize_t i, int flags, const Format *f) noexcept nogil:
        cdef u64 point = self.points_[i]
        if not POINT_LOW <= point < POINT_END or (f.kind == EPOCH and point < EPOCH_LOW):
            return BAD_TIME
        if f.head and self.pri_[i] > PRI_MAX:
            return BAD_PRI
        if flags & F_HOST and (not f.tail or self.shn_[i] >= self.host_count):
            return BAD_HOST
        if flags & F_APP and self.app_[i] >= self.app_count:
            return BAD_APP
        if flags & F_PID and not 0 <= self.pid_[i] <= PID_MAX:
            return BAD_PID
        return FINE

    cdef inline Py_ssize_t around(self, Py_ssize_t i, int flags, const Format *f) noexcept nogil:
        """The size of what stands in the hole besides the time."""
        cdef Py_ssize_t size = 0
        if f.head:
            size = 2 + digits_of(self.pri_[i]) + (2 if f.head == 2 else 0)
        if flags & F_HOST:
            size += 2 + self.hosts[self.shn_[i]].size
            if flags & F_APP:
                size += 2 + self.apps[self.app_[i]].size
                if flags & F_PID:
                    size += digits_of(<u32>self.pid_[i]) + (0 if f.head == 2 else 2)
                elif f.head == 2:
                    size += 1
        return size

    # ------------------------------------------------------------ the bytes

    cdef inline u8 *put_hole(self, u8 *o, Py_ssize_t i, int flags, Clock *clock) noexcept nogil:
        """What was taken out of the row's line. May write SLACK bytes more than it returns."""
        cdef const Format *f = &self.forms[self.format_[i]]
        cdef const Name *name
        if f.head:
            o[0] = c'<'
            o = put_number(o + 1, self.pri_[i])
            o[0] = c'>'
            o += 1
            if f.head == 2:
                o[0], o[1] = c'1', c' '
                o += 2
        o = put_point(o, f, self.points_[i], clock)
        if flags & F_HOST:
            name = &self.hosts[self.shn_[i]]
            o[0] = c' '
            memcpy(o + 1, name.data, <size_t>name.size)
            o += 1 + name.size
            o[0] = c' '
            o += 1
            if flags & F_APP:
                name = &self.apps[self.app_[i]]
                memcpy(o, name.data, <size_t>name.size)
                o += name.size
                o = self.put_pid(o, i, flags, f.head)
        return o

    cdef inline u8 *put_pid(self, u8 *o, Py_ssize_t i, int flags, int head) noexcept nogil:
        cdef u32 pid
        cdef int n
        if flags & F_PID:
            pid = <u32>self.pid_[i]
            o[0] = c' ' if head == 2 else c'['
            n = digits_of(pid)
            put_digits(o + 1, pid, n)
            o += 1 + n
            if head != 2:
                o[0], o[1] = c']', c':'
                o += 2
        elif head == 2:
            o[0], o[1] = c' ', c'-'
            o += 2
        else:
            o[0] = c':'
            o += 1
        o[0] = c' '
        return o + 1

    cdef inline u8 *put_row(self, u8 *o, Py_ssize_t i, Clock *clock) noexcept nogil:
        cdef int flags = self.flags_[i]
        cdef text line = self.line_data + self.starts_[i]
        cdef size_t size = self.sizes_[i], at
        if flags & F_TIME:
            at = self.at_[i]
            if at:
                memcpy(o, line, at)
            o = self.put_hole(o + at, i, flags, clock)
            line += at
            size -= at
        memcpy(o, line, size)
        o += size
        if flags & F_CRLF:
            o[0] = 13
            o += 1
        if not flags & F_OPEN:
            o[0] = 10
            o += 1
        return o

    cdef object print_rows(self, Py_ssize_t first, Py_ssize_t last):
        cdef Py_ssize_t i, total = 0
        cdef PyObject *out
        cdef u8 *o
        cdef Clock clock
        memset(&clock, 0, sizeof(Clock))
        for i in range(first, last):
            total += self.raws_[i]
        out = new_bytes(NULL, total + SLACK)
        if out == NULL:
            raise MemoryError
        o = <u8 *>bytes_data(out)
        with nogil:
            for i in range(first, last):
                o = self.put_row(o, i, &clock)
        assert o - <u8 *>bytes_data(out) == total
        _PyBytes_Resize(&out, total)
        result = <object>out
        Py_DECREF(out)
        return result

    def render(self, Py_ssize_t first=0, last=None):
        """The source's bytes of rows first..last (all by default)."""
        cdef Py_ssize_t stop = self.count if last is None else last
        if not 0 <= first <= stop <= self.count:
            raise IndexError(f"rows {first} to {stop} of {self.count}")
        return self.print_rows(first, stop)

    def render_many(self, rows):
        """The source's bytes of each of these rows."""
        cdef Py_ssize_t row
        cdef list out = []
        for row in rows:
            if not 0 <= row < self.count:
                raise IndexError(f"row {row} of {self.count}")
            out.append(self.print_rows(row, row + 1))
        return out

    # ------------------------------------------------------------ finding

    def find(self, needle, ignore_case=False):
        """The rows whose line may contain the needle; see _kernel_py_out.py."""
        cdef bytes wanted = bytes(needle).lower() if ignore_case else bytes(needle)
        cdef Py_ssize_t size = len(wanted), i
        cdef bint fold = bool(ignore_case)
        cdef u8 *marks
        cdef Search *search
        if not wanted or b"\n" in wanted or b"\r" in wanted:
            return list(range(self.count))
        if size > RAW_MAX:
            return []
        marks = <u8 *>calloc(<size_t>self.count + 1, 1)
        search = <Search *>calloc(1, sizeof(Search))
        try:
            if marks == NULL or search == NULL:
                raise MemoryError
            search.needle, search.size, search.fold = <text>PyBytes_AS_STRING(wanted), size, fold
            search.room = <u8 *>malloc(<size_t>(HOLE_MAX + SLACK + 2 * size))
            if search.room == NULL:
                raise MemoryError
            if fold:
                self.find_folded(search, marks)
            else:
                with nogil:
                    self.find_texts(search, self.line_data, marks)
            with nogil:
                self.find_holes(search, marks)
            return [i for i in range(self.count) if marks[i]]
        finally:
            if search != NULL:
                free(search.room)
            free(search)
            free(marks)

    cdef int find_folded(self, Search *search, u8 *marks) except -1:
        """`find_texts` in a copy of the lines in small letters."""
        cdef u8 *copy = <u8 *>malloc(<size_t>self.line_size + 1)
        cdef Py_ssize_t i
        if copy == NULL:
            raise MemoryError
        with nogil:
            for i in range(self.line_size):     # plain enough for the compiler to do sixteen at once
                copy[i] = self.line_data[i] | ((<u8>(self.line_data[i] - 65) < 26) << 5)
            self.find_texts(search, copy, marks)
            free(copy)
        return 0

    cdef void find_texts(self, Search *search, text data, u8 *marks) noexcept nogil:
        """Marks the rows in whose text the needle is. One search through all lines; a hit is looked up, not a row."""
        cdef text p = data, end = data + self.line_size, hit
        cdef Py_ssize_t row = 0, low, high, middle
        while True:
            hit = first_of(p, end, search.needle, search.size)
            if hit == NULL:
                return
            low, high = row, row + 1                # row's start <= hit; double the step until beyond it, then halve
            while high < self.count and data + self.starts_[high] <= hit:
                low = high
                high += high - row
            if high > self.count:
                high = self.count
            while high - low > 1:
                middle = (low + high) // 2
                if data + self.starts_[middle] <= hit:
                    low = middle
                else:
                    high = middle
            row = low
            if hit + search.size <= data + self.starts_[row] + self.sizes_[row]:
                marks[row] = 1
                row += 1
                if row >= self.count:
                    return
                p = data + self.starts_[row]
            else:                                   # over the end of a text that has no LF behind it
                p = hit + 1

    cdef void find_holes(self, Search *search, u8 *marks) noexcept nogil:
        """Marks the rows whose hole has a share in the needle."""
        cdef Py_ssize_t i
        cdef Answer answer
        for i in range(self.count):
            if marks[i] or not self.flags_[i] & F_TIME:
                continue
            answer = self.ask(search, i)
            if answer == ALWAYS or (answer == PERHAPS and self.hole_holds(search, i)):
                marks[i] = 1

    cdef inline Answer ask(self, Search *search, Py_ssize_t i) noexcept nogil:
        """Of the shape of this row's hole: has it been asked before?"""
        cdef u64 names = <u64>self.shn_[i] << 16 | <u64>self.app_[i] << 32
        cdef u64 key = names | self.format_[i] | <u64>(self.flags_[i] & F_PID) << 48
        cdef u32 at = <u32>((key * 0x9E3779B97F4A7C15U) >> 54)      # ten bits: SHAPES_MAX
        while search.shapes.answers[at] != UNKNOWN:
            if search.shapes.keys[at] == key:
                return <Answer>search.shapes.answers[at]
            at = (at + 1) & (SHAPES_MAX - 1)
        if search.shapes.count > SHAPES_MAX // 2:
            return PERHAPS
        search.shapes.count += 1
        search.shapes.keys[at] = key
        search.shapes.answers[at] = <u8>self.answer(search, i)
        return <Answer>search.shapes.answers[at]

    cdef Answer answer(self, Search *search, Py_ssize_t i) noexcept nogil:
        cdef int flags = self.flags_[i]
        cdef const Format *f = &self.forms[self.format_[i]]
        cdef Pattern *p = &search.pattern
        if flags & F_HOST and name_holds(&self.hosts[self.shn_[i]], search.needle, search.size, search.fold):
            return ALWAYS
        if flags & F_APP and name_holds(&self.apps[self.app_[i]], search.needle, search.size, search.fold):
            return ALWAYS
        if search.size > NEEDLE_LONG:
            return PERHAPS
        p.size = 0
        if f.head:
            place(p, PLACE_BYTE, c'<')
            place(p, PLACE_NUMBER, 0)
            place(p, PLACE_BYTE, c'>')
            if f.head == 2:
                place(p, PLACE_BYTE, c'1')
                place(p, PLACE_BYTE, c' ')
        place_time(p, f)
        if flags & F_HOST:
            place(p, PLACE_BYTE, c' ')
            place_text(p, self.hosts[self.shn_[i]].data, self.hosts[self.shn_[i]].size)
            place(p, PLACE_BYTE, c' ')
        if flags & F_APP:
            place_text(p, self.apps[self.app_[i]].data, self.apps[self.app_[i]].size)
            place_pid(p, flags & F_PID, f.head)
        return PERHAPS if could_overlap(p, f, search.needle, search.size, search.fold) else NEVER

    cdef bint hole_holds(self, Search *search, Py_ssize_t i) noexcept nogil:
        """Prints the hole and as much around it as the needle could reach, and looks there."""
        cdef text line = self.line_data + self.starts_[i]
        cdef Py_ssize_t at = self.at_[i], reach = search.size - 1, k
        cdef Py_ssize_t before = at if at < reach else reach, after = self.sizes_[i] - at
        cdef u8 *o = search.room
        if after > reach:
            after = reach
        memcpy(o, line + at - before, <size_t>before)
        o = self.put_hole(o + before, i, self.flags_[i], &search.clock)
        memcpy(o, line + at, <size_t>after)
        o += after
        if search.fold:
            for k in range(o - search.room):
                search.room[k] = LOWER[search.room[k]]
        return first_of(search.room, o, search.needle, search.size) != NULL

    def invalid_utf8(self):
        """The rows whose text is not UTF-8."""
        cdef Py_ssize_t i
        cdef text p
        cdef list out = []
        if is_ascii(self.line_data, self.line_size):
            return out
        for i in range(self.count):
            p = self.line_data + self.starts_[i]
            if not valid_utf8(p, p + self.sizes_[i]):
                out.append(i)
        return out

    def text(self):
        """What is left of each line, as an Arrow column."""
        return gather_text([(self, 0, self.count)])

    # ------------------------------------------------------------ the views

    cdef object view(self, const void *data, Py_ssize_t count, int width, str code):
        cdef Py_ssize_t start = <text>data - <text>PyBytes_AS_STRING(self.store)
        if not count:
            return memoryview(_new_array(code)).toreadonly()    # a view of nothing can't be cast
        return memoryview(self.store)[start:start + count * width].cast(code)

    cdef object indexes(self, const u16 *values, Py_ssize_t entries):
        """As one byte each where they fit."""
        cdef bytes out
        cdef u8 *o
        cdef Py_ssize_t i
        if entries > NARROW:
            return self.view(values, self.count, 2, "H")
        out = PyBytes_FromStringAndSize(NULL, self.count)
        o = <u8 *>PyBytes_AS_STRING(out)
        for i in range(self.count):
            o[i] = <u8>values[i] if values[i] < NARROW else NARROW
        return memoryview(out)

    @property
    def lines(self):
        if self.cut is None:
            self.cut = self.body[:self.line_size]
        return self.cut

    @property
    def starts(self):
        return self.view(self.starts_, self.count + 1, 4, "I")

    @property
    def text_sizes(self):
        return self.view(self.sizes_, self.count, 4, "I")

    @property
    def raw_sizes(self):
        return self.view(self.raws_, self.count, 4, "I")

    @property
    def points(self):
        return self.view(self.points_, self.count, 8, "Q")

    @property
    def offsets(self):
        return self.view(self.offsets_, self.count, 8, "Q")

    @property
    def flags(self):
        return self.view(self.flags_, self.count, 1, "B")

    @property
    def stream(self):
        return self.view(self.stream_, self.count, 2, "H")

    @property
    def pid(self):
        return self.view(self.pid_, self.count, 4, "i")

    @property
    def pri(self):
        return self.view(self.pri_, self.count, 1, "B")

    @property
    def format(self):
        return self.indexes(self.format_, self.form_count)

    @property
    def shn(self):
        return self.indexes(self.shn_, self.host_count)

    @property
    def app(self):
        return self.indexes(self.app_, self.app_count)

# ---------------------------------------------------------------- buffers

cdef inline Wrong step(text *at, text end, i64 *ticks) noexcept nogil:
    """Moves a time by the next difference of the column."""
    cdef u64 v
    cdef i64 difference
    at[0] = get_varint(at[0], end, &v)
    if at[0] == NULL:
        return BAD_NUMBER
    difference = unzigzag(v)
    if not -DIFFERENCE_MAX < difference < DIFFERENCE_MAX:
        return BAD_POINT
    ticks[0] += difference
    return FINE if ticks[0] >= 0 else BAD_POINT

def _bytes_of(given):
    """Any contiguous buffer as its bytes."""
    view = memoryview(given)
    return view.cast("B") if view.nbytes else memoryview(b"")

cdef int fill(void *into, given, Py_ssize_t count, Py_ssize_t width) except -1:
    cdef const u8[::1] data = _bytes_of(given)
    if data.shape[0] != count * width:
        raise ColumnsError(f"an array of {data.shape[0]} bytes for {count} rows of {width}")
    if count:
        memcpy(into, &data[0], <size_t>(count * width))
    return 0

cdef int check_edges(i32 *edges, given, Py_ssize_t count, Py_ssize_t size) except -1:
    cdef Py_ssize_t i
    cdef i64 previous = 0
    fill(edges, given, count + 1, 4)
    for i in range(count + 1):
        if not previous <= edges[i] <= size:
            raise ColumnsError(_WRONG[<int>BAD_EDGES])
        previous = edges[i]
    return 0

def gather_text(pieces):
    """`text` of rows first..last of each piece, in this order; ValueError beyond the 2 GiB of an Arrow column."""
    cdef list known = list(pieces)
    cdef Rows rows
    cdef Py_ssize_t first, last, i, count = 0, total = 0
    cdef bytes data, edge_store
    cdef i32 *edges
    cdef u8 *o
    cdef u8 *begin
    for rows, first, last in known:
        if not 0 <= first <= last <= rows.count:
            raise IndexError(f"rows {first} to {last} of {rows.count}")
        count += last - first
        total += <Py_ssize_t>rows.starts_[last] - rows.starts_[first] - (0 if rows.dense else last - first)
    if total > TEXT_MAX:
        raise ValueError("more than 2 GiB of text in one column")
    data, edge_store = PyBytes_FromStringAndSize(NULL, total), PyBytes_FromStringAndSize(NULL, 4 * (count + 1))
    begin = o = <u8 *>PyBytes_AS_STRING(data)
    edges = <i32 *>PyBytes_AS_STRING(edge_store)
    edges[0] = 0
    for rows, first, last in known:
        with nogil:
            for i in range(first, last):
                memcpy(o, rows.line_data + rows.starts_[i], rows.sizes_[i])
                o += rows.sizes_[i]
                edges += 1
                edges[0] = <i32>(o - begin)
    return data, memoryview(edge_store).cast("i")

def arranged(data, edges, order):
    """Texts in another order; see _kernel_py_out.py."""
    cdef bytes whole = bytes(data)
    cdef list views = []
    for given in (edges, order):
        held = _bytes_of(given)
        if held.nbytes % 8:
            raise ColumnsError(f"an array of {held.nbytes} bytes for rows of 8")
        views.append(held.cast("q") if held.nbytes else memoryview(_new_array("q", [0]))[:0])
    cdef const i64[:] places = views[0]
    cdef const i64[:] wanted = views[1]
    cdef Py_ssize_t i, count = places.shape[0] - 1, total = 0, many = wanted.shape[0]
    cdef i64 size = len(whole), row
    cdef text p = <text>PyBytes_AS_STRING(whole)
    cdef u8 *o
    cdef bytes out
    for i in range(count):
        if not 0 <= places[i] <= places[i + 1] <= size:
            raise ColumnsError(_WRONG[<int>BAD_EDGES])
    for i in range(many):
        row = wanted[i]
        if not 0 <= row < count:
            raise IndexError(f"a text beyond {max(count, 0)}")
        total += <Py_ssize_t>(places[row + 1] - places[row])
    out = PyBytes_FromStringAndSize(NULL, total)
    o = <u8 *>PyBytes_AS_STRING(out)
    with nogil:
        for i in range(many):
            row = wanted[i]
            memcpy(o, p + places[row], <size_t>(places[row + 1] - places[row]))
            o += places[row + 1] - places[row]
    return out
