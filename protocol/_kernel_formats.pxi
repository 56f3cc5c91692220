# One format: its C struct, and printing a time by it. Small things that both directions need.
#
# A format is zeroed before it is filled, so two are equal if their bytes are (`same_format`). It comes from the bytes
# of a stream (_kernel_in.pxi) or from a packet's header through `load_format`, which has formats.py check it first.

cdef enum:
    ISO = 1             # as in formats.py
    BSD = 2
    CLF = 3
    EPOCH = 4
    SLASH = 5
    CTIME = 6
    PLAIN = 7
    ANDROID = 8
    KINDS = 9
    ANCHOR_MAX = 40
    ZONE_MAX = 8
    REACH = 256         # an anchor is looked for in so many first bytes of a line
    MINUTE_MAX = 20     # the longest shape down to the minute has 18
    TIME_MAX = 48       # a whole time: minute 18, seconds 2, mark, 8 digits, zone 7

cdef struct Format:
    u8 kind, head, tail, sep, mark, digits, extra
    u8 zone_len, zone_out       # zone_out: how much of the zone is in the hole, 0 where further digits keep it in the line
    u8 anchor_len, text_len     # text_len: bytes of the time, as far as it is in the hole
    u8 zone[ZONE_MAX]
    u8 anchor[ANCHOR_MAX]
    i32 offset                  # seconds east of UTC
    i32 year                    # what stands in the zone's place (CTIME), else 0
    u32 scale                   # 10 ** (8 - digits): units of a point in one of the last digit

cdef struct Clock:              # the minute that was printed last: most lines share it with the line before
    i64 minute
    int kind, sep, size
    u8 text[MINUTE_MAX]

cdef i64[9] TEN = [1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000]
cdef const char *MONTH_NAMES = "JanFebMarAprMayJunJulAugSepOctNovDec"
cdef const char *DAY_NAMES = "ThuFriSatSunMonTueWed"      # 1970-01-01 was a Thursday
cdef int[12] MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
cdef u8[KINDS][MINUTE_MAX] SHAPE
cdef int[KINDS] MINUTE_SIZE
cdef i64 SECONDS_MIN = _formats.SECONDS_MIN
cdef i64 SECONDS_END = _formats.SECONDS_END

def _load_shapes():
    for kind, shape in _formats.SHAPES.items():
        MINUTE_SIZE[kind] = _formats.MINUTE_SIZES[kind]
        for i, c in enumerate(shape + b"\0"):
            SHAPE[kind][i] = c
_load_shapes()

# ---------------------------------------------------------------- numbers

cdef inline bint digit(u8 c) noexcept nogil:
    return <u8>(c - 48) < 10

cdef inline bint letter(u8 c) noexcept nogil:
    return <u8>((c | 32) - 97) < 26

cdef inline int two(text p) noexcept nogil:         # two digits; 255 if they are none: compare before you calculate
    cdef u8 a = p[0] - 48, b = p[1] - 48
    return a * 10 + b if a < 10 and b < 10 else 255

cdef inline u8 *put_varint(u8 *o, u64 v) noexcept nogil:
    while v > 127:
        o[0] = <u8>(v | 128)
        o += 1
        v >>= 7
    o[0] = <u8>v
    return o + 1

cdef inline u8 *put_varint_evenly(u8 *o, u64 v) noexcept nogil:
    """The same without a branch on how many bytes it takes, up to three: for numbers that are now small, now large."""
    cdef u32 more = (v > 127) + (v > 16383)
    if v >> 21:
        return put_varint(o, v)
    o[0] = <u8>(v & 127 | (more > 0) << 7)
    o[1] = <u8>(v >> 7 & 127 | (more > 1) << 7)
    o[2] = <u8>(v >> 14)
    return o + 1 + more

cdef inline u64 zigzag(i64 v) noexcept nogil:
    return (<u64>v << 1) ^ <u64>(v >> 63)

cdef inline text get_varint(text p, text end, u64 *v) noexcept nogil:
    """Reads at most ten bytes; NULL where the number does not end before `end` or is longer than 64 bits."""
    cdef int shift = 0
    v[0] = 0
    while p < end:
        if shift == 63 and p[0] > 1:
            return NULL
        v[0] |= <u64>(p[0] & 127) << shift
        if p[0] < 128:
            return p + 1
        shift += 7
        p += 1
    return NULL

cdef inline i64 unzigzag(u64 v) noexcept nogil:
    return <i64>(v >> 1) ^ -<i64>(v & 1)

cdef inline u8 *put_digits(u8 *o, u64 v, int n) noexcept nogil:
    cdef int k
    for k in range(n - 1, -1, -1):
        o[k] = <u8>(48 + v % 10)
        v //= 10
    return o + n

cdef inline u8 *put_number(u8 *o, u64 v) noexcept nogil:
    """A number as it is, without leading zeros; at most 20 bytes."""
    cdef int n = 1
    cdef u64 rest = v // 10
    while rest:
        n += 1
        rest //= 10
    return put_digits(o, v, n)

# ---------------------------------------------------------------- dates

cdef inline bint leap(int y) noexcept nogil:
    return y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)

cdef inline bint date_ok(int y, int m, int d) noexcept nogil:
    return 1971 <= y <= 2261 and 1 <= m <= 12 and 1 <= d <= MONTH_DAYS[m - 1] + (m == 2 and leap(y))

cdef i64 days_from_civil(int y, int m, int d) noexcept nogil:      # Hinnant's, for years after 1970
    if m <= 2:
        y -= 1
        m += 12
    return 365 * <i64>y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + d - 719469

cdef void civil_from_days(i64 days, int *y, int *m, int *d) noexcept nogil:
    cdef i64 z = days + 719468, era = z // 146097, doe = z - era * 146097
    cdef i64 yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef int doy = <int>(doe - (365 * yoe + yoe // 4 - yoe // 100)), mp = (5 * doy + 2) // 153
    d[0] = doy - (153 * mp + 2) // 5 + 1
    m[0] = mp + 3 if mp < 10 else mp - 9
    y[0] = <int>(yoe + era * 400) + (m[0] <= 2)

# ---------------------------------------------------------------- printing a time

cdef inline bint ticks_ok(const Format *f, i64 ticks) noexcept nogil:
    """Is this a time that could have been read? `ticks` are units of the format's last digit since 1970, UTC."""
    return SECONDS_MIN * TEN[f.digits] <= ticks < SECONDS_END * TEN[f.digits]

cdef void print_minute(Clock *clock, const Format *f, i64 minute) noexcept nogil:
    cdef u8 *o = clock.text
    cdef const u8 *shape = SHAPE[f.kind]
    cdef i64 days = minute // 1440
    cdef int y, m, d, i = 0
    cdef u8 c
    civil_from_days(days, &y, &m, &d)
    minute -= days * 1440
    while shape[i]:
        c = shape[i]
        i += 1
        if c == c'Y':
            o = put_digits(o, <u64>y, 4)
        elif c == c'y':
            o = put_digits(o, <u64>(y % 100), 2)
        elif c == c'm':
            o = put_digits(o, <u64>m, 2)
        elif c == c'd' or c == c'e':
            put_digits(o, <u64>d, 2)
            if c == c'e' and d < 10:
                o[0] = f.sep
            o += 2
        elif c == c'b':
            memcpy(o, MONTH_NAMES + 3 * (m - 1), 3)
            o += 3
        elif c == c'D':
            memcpy(o, DAY_NAMES + 3 * (days % 7), 3)
            o += 3
        elif c == c'H':
            o = put_digits(o, <u64>(minute // 60), 2)
        elif c == c'M':
            o = put_digits(o, <u64>(minute % 60), 2)
        else:
            o[0] = f.sep if c == c'?' else c
            o += 1
    clock.size = <int>(o - clock.text)

cdef inline u8 *put_time(u8 *o, const Format *f, i64 ticks, Clock *clock) noexcept nogil:
    """Prints a time (`ticks_ok` must hold) as the format writes it, at most TIME_MAX bytes. Zero the clock before."""
    cdef i64 seconds = ticks // TEN[f.digits], minute
    ticks -= seconds * TEN[f.digits]
    seconds += f.offset
    if f.kind == EPOCH:
        o = put_digits(o, <u64>seconds, 10)
    else:
        minute = seconds // 60
        if minute != clock.minute or f.kind != clock.kind or f.sep != clock.sep:
            print_minute(clock, f, minute)
            clock.minute, clock.kind, clock.sep = minute, f.kind, f.sep
        memcpy(o, clock.text, MINUTE_MAX)
        o = put_digits(o + clock.size, <u64>(seconds - minute * 60), 2)
    if f.mark:
        o[0] = f.mark
        o += 1
    o = put_digits(o, <u64>ticks, f.digits)
    memcpy(o, f.zone, ZONE_MAX)
    return o + f.zone_out

# ---------------------------------------------------------------- anchors, and the way from and to Python

cdef inline text find_anchor(const Format *f, text line, Py_ssize_t n) noexcept nogil:
    """Where the hole starts: behind the anchor's first occurrence, NULL if there is none. f.anchor_len must not be 0.

    The same in the whole line and in what is left of it, since all of the anchor stands before the hole."""
    cdef text r
    if n > REACH:
        n = REACH
    if f.anchor_len == 1:
        r = <text>memchr(line, f.anchor[0], n)
    else:
        r = find_bytes(line, line + n, f.anchor, f.anchor_len)
    return r + f.anchor_len if r != NULL else NULL

cdef inline bint same_format(const Format *a, const Format *b) noexcept nogil:
    return memcmp(a, b, sizeof(Format)) == 0

cdef inline bint yearless(const Format *f) noexcept nogil:
    """The line doesn't say its year: it comes from the stream."""
    return f.kind == BSD or f.kind == ANDROID or (f.kind == CTIME and f.year == 0)

cdef void complete_format(Format *f) noexcept nogil:
    """The members that follow from the others."""
    f.scale = <u32>TEN[8 - f.digits]
    f.zone_out = 0 if f.extra else f.zone_len
    f.text_len = <u8>((10 if f.kind == EPOCH else MINUTE_SIZE[f.kind] + 2) + (f.mark != 0) + f.digits + f.zone_out)

cdef int load_format(Format *f, given) except -1:
    """From the NamedTuple, which is checked: ColumnsError if no kernel would have written it."""
    given = _formats.Format(*given).check()
    memset(f, 0, sizeof(Format))
    f.kind, f.head, f.tail, f.sep, f.mark = given.kind, given.head, given.tail, given.sep, given.mark
    f.digits, f.extra, f.offset, f.year = given.digits, given.extra, given.offset, given.year
    cdef bytes zone = bytes(given.zone), anchor = bytes(given.anchor)
    f.zone_len, f.anchor_len = <u8>len(zone), <u8>len(anchor)
    memcpy(f.zone, PyBytes_AS_STRING(zone), f.zone_len)
    memcpy(f.anchor, PyBytes_AS_STRING(anchor), f.anchor_len)
    complete_format(f)
    return 0

cdef dump_format(const Format *f):
    return _formats.Format(f.kind, f.head, f.tail, f.sep, f.mark, f.digits, f.extra, f.offset,
                           f.zone[:f.zone_len], f.anchor[:f.anchor_len])
