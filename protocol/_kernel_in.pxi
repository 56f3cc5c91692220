# Stream, Builder, encode: from blocks to columns.
#
# `State` is what a stream knows (its formats, the year, the last point) and survives packets; `Packet` is what an open
# packet has gathered (columns, dictionaries, its own table of formats) and takes lines of several streams. `take` goes
# through a block: find the line's end, its time, the packet that this time belongs to, the room in there, append. It
# changes nothing before a line is sure to be taken, so that who asks again with another packet gets the same result
# however often he asks. What it learns depends on the stream's lines alone: all counts are per PERIOD lines of it.

assert (ANCHORS_MAX, SEARCHES, PERIOD) == (_learned.ANCHORS_MAX, _learned.SEARCHES, _learned.PERIOD)

cdef enum:
    ANCHORS_MAX = 8         # different anchors of a stream: more are one-off lines
    SEARCHES = 64           # lines of a PERIOD that may be searched for a time all over: it costs
    PERIOD = 1000           # after so many lines formats without a hit are forgotten
    SEARCH_REACH = 200      # where such a time may begin, at most
    NAME_REACH = 128        # the longest host or app that is taken out of a line
    PIDS = 9                # digits
    COLUMNS = 8
    ROW_BYTES = 28          # of the small columns for one row at most: 1 + 1 + 10 + 1 + 1 + 5 + 1, and 8 for the point
    MAPPED = 256
    DONE = 0                # why `take` stopped
    NEED = 1
    FULL = 2
    NO_MEMORY = 3

cdef struct Slot:               # one format of a stream
    Format format
    u64 id                      # unique in this process: packets remember formats by it
    u32 hits                    # lines of this PERIOD
    bint first                  # the first one with its anchor

cdef struct Minute:             # the minute that was read last: most lines share it with the line before
    u8 text[MINUTE_MAX]
    int kind, given             # given: the year of the format (CTIME)
    int year, month
    i64 day, seconds            # the day's begin and the minute's, since 1970, local

cdef struct Again:              # a whole time of full seconds that was read last: lines of one second come together
    u64 id                      # of its format; 0: none
    i64 ticks
    int size                    # of the text, and the two bytes behind that say that it ends there
    u8 text[MINUTE_MAX + 4]

cdef struct State:
    Slot *slots
    int room, count, current, anchors
    int budget, lines           # searches left, and lines gone by, in this PERIOD
    int year, month             # of the last line without a year of its own; 0: none yet
    bint part, timed
    int kind                    # the class of the last line, where lines are dealt by class
    u64 hint, point, next_id
    Minute minute
    Again again                 # of a time in that minute

cdef struct Hit:                # the time that was found in a line
    i64 ticks                   # in units of the format's last digit
    Py_ssize_t at               # where the hole starts
    text stop                   # where it ends
    int flags, host, app
    i32 pid
    u8 pri

cdef struct Names:              # a dictionary of a packet
    int count
    u32 used
    u32 start[256]
    u8 size[256]
    u16 slot[1024]              # by hash: index + 1
    u8 pool[65536]

cdef struct Run:
    i64 handle
    u64 first, end, start
    u32 count

cdef struct Packet:
    u64 low, high, point_min, point_max
    int kind                    # the class of its lines, as its code
    bint late, open
    Py_ssize_t raw, raw_max
    u32 count, rows_room
    Py_ssize_t lines_size, lines_room
    u8 *lines
    u8 *rows                    # the small columns, one behind the other, each with room for rows_room rows
    u8 *column[COLUMNS]         # where each begins, and
    u8 *end[COLUMNS]            # how far it is filled; [0] is not used
    u64 *points
    u64 previous                # the point of this run's last row
    i64 ticks                   # the same in units of the format ticks_id (0: of none)
    u64 ticks_id
    int index                   # of that format in this packet's table
    Run *runs
    Run *run                    # the last one, an empty one while there is none
    Run no_run
    int run_count, run_room
    i64 *streams
    int stream_count, stream_room
    int format_count
    Format formats[FORMATS_MAX]
    u64 map_id[MAPPED]          # a stream's format -> this packet's, by id; formats that clash are found by comparing
    u8 map_index[MAPPED]
    int host, app               # the last ones: most lines have the same again
    Names hosts, apps
    i32 pid[256]                # the last one of each app

cdef int[COLUMNS] WIDTHS = [0, 1, 1, 10, 1, 1, 5, 1]
cdef u32 EVENTS_MAX = _limits.PACKET_EVENTS_MAX
cdef int RUNS_MAX = _limits.PACKET_RUNS_MAX
cdef int STREAMS_MAX = _limits.PACKET_STREAMS_MAX

cdef enum:
    HOST_BYTE = 1
    APP_BYTE = 2

cdef u8[256] NAME_BYTES         # which bytes a host's and an app's name may have: printable ASCII, an app no [ and :

def _load_names():
    for c in range(33, 127):
        NAME_BYTES[c] = HOST_BYTE | (0 if c in b"[:" else APP_BYTE)
_load_names()

# ---------------------------------------------------------------- reading a minute

cdef int month_at(text t) noexcept nogil:
    cdef int i
    for i in range(12):
        if memcmp(MONTH_NAMES + 3 * i, t, 3) == 0:
            return i + 1
    return 0

cdef int weekday_at(text t) noexcept nogil:
    cdef int i
    for i in range(7):
        if memcmp(DAY_NAMES + 3 * i, t, 3) == 0:
            return i
    return -1

cdef int year_of(State *s, int m, int d, int clock, int weekday) noexcept nogil:
    """The year of a date that has none: turned where the month jumps, or the last one that is not after the hint."""
    cdef i64 latest, days
    cdef int y, k, a, b
    if s.year:
        return s.year + (s.month - m > 6) - (m - s.month > 6)
    if not s.hint:
        return 0
    latest = <i64>(s.hint // 100000000) + 86400
    civil_from_days(latest // 86400, &y, &a, &b)
    for k in range(12):                                 # a weekday comes again after at most 11 years, a leap day after 8
        if date_ok(y - k, m, d):
            days = days_from_civil(y - k, m, d)
            if days * 86400 + clock <= latest and (weekday < 0 or days % 7 == weekday):
                return y - k
    return 0

cdef bint same_day(State *s, const Format *f, text t) noexcept nogil:
    """A minute of the day that was read last: only its clock is read. False: no such minute, or another day."""
    cdef Minute *m = &s.minute
    cdef text clock = t + MINUTE_SIZE[f.kind] - 6       # HH:MM:
    cdef int hh, mm
    if m.kind != f.kind or m.given != f.year or f.kind == PLAIN or (s.year == 0 and yearless(f)):
        return False                                    # a first year is chosen by the clock too
    if not same_bytes(t, m.text, clock - t) or clock[2] != c':' or clock[5] != c':':
        return False
    hh = two(clock)
    mm = two(clock + 3)
    if hh > 23 or mm > 59:
        return False
    s.again.id = 0
    m.seconds = m.day + hh * 3600 + mm * 60
    memcpy(m.text + (clock - t), clock, 6)
    return True

cdef bint read_minute(State *s, const Format *f, text t) noexcept nogil:
    """The slow half of a time, field by field along the kind's shape; kept as the stream's last minute."""
    cdef int y = -1, m = 0, d = 0, hh = 0, mm = 0, weekday = -1
    cdef const u8 *shape = SHAPE[f.kind]
    cdef text begin = t
    cdef u8 c
    cdef i64 days
    while shape[0]:
        c = shape[0]
        shape += 1
        if c == c'Y':
            y = two(t + 2) if two(t) < 100 else 255
            if y == 255:
                return False
            y += two(t) * 100
            t += 4
        elif c == c'b' or c == c'D':
            if c == c'b':
                m = month_at(t)
            else:
                weekday = weekday_at(t)
                if weekday < 0:
                    return False
            t += 3
        elif c == c'e' and t[0] == c' ':
            d = t[1] - 48 if digit(t[1]) else 255
            t += 2
        elif letter(c):
            if c == c'y':
                y = 2000 + two(t)
                if y > 2099:
                    return False
            elif c == c'm':
                m = two(t)
            elif c == c'H':
                hh = two(t)
            elif c == c'M':
                mm = two(t)
            else:
                d = two(t)
            t += 2
        else:
            if t[0] != (f.sep if c == c'?' else c):
                return False
            t += 1
    if hh > 23 or mm > 59 or m < 1 or m > 12:
        return False
    if y < 0:
        y = f.year if f.year else year_of(s, m, d, hh * 3600 + mm * 60, weekday)
    if not date_ok(y, m, d):
        return False
    days = days_from_civil(y, m, d)
    if weekday >= 0 and days % 7 != weekday:
        return False
    s.minute.kind, s.minute.given, s.minute.year, s.minute.month = f.kind, f.year, y, m
    s.again.id = 0
    s.minute.day = days * 86400
    s.minute.seconds = s.minute.day + hh * 3600 + mm * 60
    memcpy(s.minute.text, begin, MINUTE_SIZE[f.kind])
    return True

cdef inline bint same_minute(const Minute *m, const Format *f, text t) noexcept nogil:
    """Compares 11 to 18 bytes as three words that overlap."""
    cdef u64 a, b, c, d
    cdef int tail = MINUTE_SIZE[f.kind] - 8
    if m.kind != f.kind or m.given != f.year:
        return False
    memcpy(&a, t, 8)
    memcpy(&b, m.text, 8)
    memcpy(&c, t + tail, 8)
    memcpy(&d, m.text + tail, 8)
    if a != b or c != d:
        return False
    if tail > 8:
        memcpy(&a, t + 8, 8)
        memcpy(&b, m.text + 8, 8)
        return a == b
    return True

# ---------------------------------------------------------------- does a line fit a format?

cdef int zone_at(text x, text end, i32 *offset) noexcept nogil:
    """Length of a zone `Z`, `+0100`, `+01:00`, `+01`, ` +0100`, ` +01:00` at x; 0 if there is none."""
    cdef int k = 0, h, m, size
    offset[0] = 0
    if x < end and x[0] == c'Z':
        return 0 if end - x > 1 and (digit(x[1]) or letter(x[1])) else 1
    if x < end and x[0] == c' ':
        k = 1
    if end - x < k + 3 or (x[k] != c'+' and x[k] != c'-'):
        return 0
    h = two(x + k + 1)
    if h > 23:
        return 0
    if end - x >= k + 6 and x[k + 3] == c':' and two(x + k + 4) < 60:
        m = two(x + k + 4)
        size = k + 6
    elif end - x >= k + 5 and two(x + k + 3) < 60:
        m = two(x + k + 3)
        size = k + 5
    elif k == 0:
        m = 0
        size = 3
    else:
        return 0
    if end - x > size and digit(x[size]):
        return 0
    offset[0] = (h * 60 + m) * 60 if x[k] == c'+' else -(h * 60 + m) * 60
    return size

cdef int year_at(text x, text end) noexcept nogil:
    """The year ` 2022` at x; 0 if there is none."""
    cdef int y
    if end - x < 5 or x[0] != c' ' or two(x + 1) == 255 or two(x + 3) == 255 or (end - x > 5 and digit(x[5])):
        return 0
    y = two(x + 1) * 100 + two(x + 3)
    return y if date_ok(y, 1, 1) else 0

cdef inline bint zone_fits(const Format *f, text x, text end) noexcept nogil:
    """Is what comes behind the digits just what the format says, and no more? First what nearly all lines have."""
    if f.zone_len == 0 and f.kind != EPOCH and f.kind != CTIME and end - x > 1 and x[0] == c' ' and letter(x[1]):
        return True
    return zone_fits_slowly(f, x, end)

cdef bint zone_fits_slowly(const Format *f, text x, text end) noexcept nogil:
    cdef i32 offset
    cdef u8 c
    if end - x < f.zone_len:
        return False
    if f.kind == EPOCH:
        return end - x > 0 and not digit(x[0]) and not letter(x[0])
    if f.zone_len == 0:
        if x == end:
            return True
        c = x[0]
        if c == c' ' and f.kind != CTIME:
            return end - x < 2 or (x[1] != c'+' and x[1] != c'-') or zone_at(x, end, &offset) == 0
        if f.kind == CTIME:
            return not digit(c) and year_at(x, end) == 0
        return not digit(c) and ((c != c'Z' and c != c'+' and c != c'-') or zone_at(x, end, &offset) == 0)
    if not same_bytes(x, f.zone, f.zone_len):
        return False
    if f.kind == CTIME:
        return end - x == f.zone_len or not digit(x[f.zone_len])
    c = x[f.zone_len] if end - x > f.zone_len else c' '
    return (c != c':' and not digit(c) and not letter(c)) or zone_at(x, end, &offset) == f.zone_len

cdef bint match_at(State *s, const Format *f, text t, text end, Hit *hit) noexcept nogil:
    """Is there a time in exactly this format at t?"""
    cdef text x
    cdef int k, v
    cdef i64 seconds = 0, fraction = 0
    if end - t < f.text_len:
        return False
    if f.kind == EPOCH:
        if t[0] != c'1' and t[0] != c'2':               # 2001 to 2065: other numbers of ten digits are no times
            return False
        seconds, v = digits_8(t, 8), two(t + 8)
        if seconds < 0 or v > 99:
            return False
        seconds = seconds * 100 + v
        x = t + 10
    else:
        if f.kind == ISO:
            if t[10] != f.sep:
                return False
        elif f.kind == BSD or f.kind == CTIME:
            k = t[4] if f.kind == BSD else t[8]
            if k <= c'0' and k != f.sep:
                return False
        if not same_minute(&s.minute, f, t) and not same_day(s, f, t) and not read_minute(s, f, t):
            return False
        x = t + MINUTE_SIZE[f.kind]
        v = two(x)
        if v > 59:                                      # a leap second stays in its line
            return False
        seconds = s.minute.seconds + v - f.offset
        x += 2
    if f.mark:
        if x[0] != f.mark:
            return False
        x += 1
    elif f.digits == 0 and end - x > 1 and (x[0] == c'.' or x[0] == c',') and digit(x[1]):
        return False
    if f.digits and end - x >= 8:
        fraction = digits_8(x, f.digits)
        if fraction < 0:
            return False
    else:
        for k in range(f.digits):
            if not digit(x[k]):
                return False
            fraction = fraction * 10 + x[k] - 48
    x += f.digits
    hit.stop = x + f.zone_out
    if f.extra:
        if end - x < f.extra:
            return False
        for k in range(f.extra):
            if not digit(x[k]):
                return False
        x += f.extra
    hit.ticks = seconds * TEN[f.digits] + fraction
    return zone_fits(f, x, end) and seconds >= SECONDS_MIN and seconds < SECONDS_END

cdef text skip_head(int head, text p, text end, u8 *pri) noexcept nogil:
    """`<13>` or `<13>1 `: where the time starts, or NULL."""
    cdef int v = 0, k = 1
    if end - p < 7 or p[0] != c'<' or (p[1] == c'0' and p[2] != c'>'):
        return NULL
    while k < 4 and digit(p[k]):
        v = v * 10 + p[k] - 48
        k += 1
    if k == 1 or p[k] != c'>' or v > 191:
        return NULL
    pri[0] = <u8>v
    if head == 2:
        return p + k + 3 if p[k + 1] == c'1' and p[k + 2] == c' ' else NULL
    return p + k + 1

cdef inline bint match(State *s, const Format *f, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """Does the line carry a time in exactly this format, where the format says?"""
    cdef text t = line
    if f.anchor_len:
        t = find_anchor(f, line, n)
    elif f.head:
        t = skip_head(f.head, line, line + n, &hit.pri)
    if t == NULL or not match_at(s, f, t, line + n, hit):
        return False
    hit.at = t - line if f.anchor_len else 0
    return True

# ---------------------------------------------------------------- learning formats

cdef int kind_at(text t, text end, int *run) noexcept nogil:
    """What the bytes at t look like at first sight; `run` digits stand there."""
    cdef int k = 0
    run[0] = 0
    if end - t < 10:
        return 0
    if t[0] >= c'A' and t[0] <= c'Z':
        if t[3] != c' ':
            return 0
        return CTIME if letter(t[4]) else BSD
    while k < 20 and t + k < end and digit(t[k]):
        k += 1
    run[0] = k
    if k == 4:
        return ISO if t[4] == c'-' else SLASH if t[4] == c'/' else 0
    if k == 2:
        return CLF if t[2] == c'/' else ANDROID if t[2] == c'-' else 0
    if k == 6:
        return PLAIN
    return EPOCH if k == 10 or k == 13 or k == 16 or k == 19 else 0

cdef bint layout_at(text t, text end, Format *f) noexcept nogil:
    """How is the time at t written, if it is one? Fills a format without anchor, head and tail; `match` must agree."""
    cdef text x
    cdef int run, k = 0, year
    memset(f, 0, sizeof(Format))
    f.kind = <u8>kind_at(t, end, &run)
    if f.kind == 0 or (f.kind != EPOCH and end - t < MINUTE_SIZE[f.kind] + 2):
        return False
    if f.kind == ISO:
        if t[10] != c'T' and t[10] != c' ':
            return False
        f.sep = t[10]
    elif f.kind == BSD or f.kind == CTIME:
        f.sep = c'0' if t[4 if f.kind == BSD else 8] == c'0' else c' '
    x = t + (10 if f.kind == EPOCH else MINUTE_SIZE[f.kind] + 2)
    if f.kind == EPOCH and run > 10:
        k = run - 10
    elif end - x > 1 and (x[0] == c'.' or x[0] == c',') and digit(x[1]):
        f.mark = x[0]
        x += 1
        while k < 19 and x + k < end and digit(x[k]):
            k += 1
    if k > 18 or (f.kind == ANDROID and k < 3):
        return False
    x += k
    f.digits = <u8>(k if k < 8 else 8)                  # finer than a point: those digits stay in the line
    f.extra = <u8>k - f.digits
    if f.kind == CTIME:
        f.year = year_at(x, end)
        f.zone_len = 5 if f.year else 0
    elif f.kind != EPOCH:
        f.zone_len = <u8>zone_at(x, end, &f.offset)
    memcpy(f.zone, x, f.zone_len)
    complete_format(f)
    return True

cdef int intern(State *s, Format *f) noexcept nogil:
    """Index of an equal format, added if new; -1 if the table is full (or memory is out, which the append will find)."""
    cdef int i
    cdef bint known = False
    cdef Slot *slots
    for i in range(s.count):
        if same_format(&s.slots[i].format, f):
            return i
        if s.slots[i].format.anchor_len == f.anchor_len and memcmp(s.slots[i].format.anchor, f.anchor, ANCHOR_MAX) == 0:
            known = True
    if s.count == FORMATS_MAX or (not known and s.anchors == ANCHORS_MAX):
        return -1
    if s.count == s.room:
        slots = <Slot *>realloc(s.slots, sizeof(Slot) * (2 * s.room if s.room else 2))
        if slots == NULL:
            return -1
        s.slots = slots
        s.room = 2 * s.room if s.room else 2
    s.slots[s.count].format = f[0]
    s.slots[s.count].id = s.next_id
    s.slots[s.count].hits = 0
    s.slots[s.count].first = not known
    s.next_id += 1
    s.anchors += not known
    s.count += 1
    return s.count - 1

cdef int learn_at_start(State *s, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """The format of a line that begins with its time, or with a syslog head and its time."""
    cdef Format f
    cdef int head = 0
    cdef text t = line, end = line + n
    if line[0] == c'<':
        head = 2
        t = skip_head(2, line, end, &hit.pri)
        if t == NULL:
            head = 1
            t = skip_head(1, line, end, &hit.pri)
        if t == NULL:
            return -1
    if not layout_at(t, end, &f):
        return -1
    if head and f.kind != ISO and (f.kind != BSD or head == 2):
        return -1
    if head == 2 and (f.sep != c'T' or f.extra):
        return -1
    f.head = <u8>head
    f.tail = f.kind == BSD or (f.kind == ISO and f.sep == c'T' and f.zone_len and not f.extra)
    hit.at = 0
    return intern(s, &f) if match_at(s, &f, t, end, hit) else -1

cdef int learn_anchored(State *s, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """Behind an anchor that is known already: another way to write the time there."""
    cdef Format f
    cdef int i
    cdef text t, end = line + n
    for i in range(s.count):
        if s.slots[i].first and s.slots[i].format.anchor_len:
            t = find_anchor(&s.slots[i].format, line, n)
            if t != NULL and layout_at(t, end, &f) and f.kind < PLAIN and match_at(s, &f, t, end, hit):
                f.anchor_len = s.slots[i].format.anchor_len
                memcpy(f.anchor, s.slots[i].format.anchor, ANCHOR_MAX)
                hit.at = t - line
                return intern(s, &f)
    return -1

cdef text key_before(text line, text a) noexcept nogil:
    """JSON: back from a value to the quote that opens its key; the line's start if there is none."""
    a -= 1
    while a > line and (a[0] == c'"' or a[0] == c'\\' or a[0] == c' ' or a[0] == c':'):
        a -= 1
    while a > line and a[0] != c'"':
        a -= 1
    return a

cdef text anchor_of(text line, text t, const Format *f) noexcept nogil:
    """Where the anchor of a time at t begins: the bracket before it, the constant text, the JSON key; NULL for none."""
    cdef text a
    if line[0] == c'{':
        a = key_before(line, t)
        if f.kind == EPOCH and a == line:
            return NULL
        return a
    if f.kind == EPOCH and t - line > 2:
        return NULL
    return t - 1 if f.kind == CLF else line

cdef int search(State *s, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """Look for a time all over the line's first bytes, and make what stands before it an anchor."""
    cdef Format f, best
    cdef text a, t, found = NULL, end = line + n
    cdef text stop = line + (SEARCH_REACH if n > SEARCH_REACH else n) - 9
    t = line
    while t + 1 < stop:
        t += 1
        if not digit(t[0]):
            if t != line + 1 or line[0] != c'[' or not letter(t[0]):
                continue
        elif digit((t - 1)[0]) or letter((t - 1)[0]):
            continue
        if not layout_at(t, end, &f) or f.kind >= PLAIN or not match_at(s, &f, t, end, hit):
            continue
        a = anchor_of(line, t, &f)
        if a == NULL:
            continue
        if found == NULL:
            found, best = t, f
        if line[0] != c'{':
            break
        if memcmp(a, b'"ts', 3) == 0 or memcmp(a, b'"ti', 3) == 0 or memcmp(a, b'"@t', 3) == 0:
            found, best = t, f                          # a JSON member that is likely to be the event's own time
            break
    if found == NULL:
        return -1
    a = anchor_of(line, found, &best)
    if found - a > ANCHOR_MAX:
        return -1
    best.anchor_len = <u8>(found - a)
    memcpy(best.anchor, a, best.anchor_len)
    if not match(s, &best, line, n, hit) or hit.at != found - line:     # its first occurrence must be this one
        return -1
    return intern(s, &best)

cdef int learn(State *s, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """The format of a line that the current one does not fit, -1 for none. Counts its searches in the budget."""
    cdef int i = learn_at_start(s, line, n, hit)
    if i < 0:
        i = learn_anchored(s, line, n, hit)
    if i < 0 and s.budget > 0 and s.anchors < ANCHORS_MAX:
        s.budget -= 1
        i = search(s, line, n, hit)
    return i

cdef void forget(State *s) noexcept nogil:
    """The end of a PERIOD: drop the formats (so the anchors) without a hit, so that one-off lines don't fill the table."""
    cdef int i, k, kept = 0, current = -1
    s.anchors = 0
    for i in range(s.count):
        if s.slots[i].hits == 0:
            continue
        if i == s.current:
            current = kept
        s.slots[kept] = s.slots[i]
        s.slots[kept].hits = 0
        s.slots[kept].first = True
        for k in range(kept):
            if (s.slots[k].format.anchor_len == s.slots[kept].format.anchor_len
                    and memcmp(s.slots[k].format.anchor, s.slots[kept].format.anchor, ANCHOR_MAX) == 0):
                s.slots[kept].first = False
        s.anchors += s.slots[kept].first
        kept += 1
    s.count = kept
    s.current = current
    s.budget = SEARCHES
    s.lines = 0

# ---------------------------------------------------------------- host, app, pid

cdef inline bint is_name(const Names *d, int i, text p, Py_ssize_t n) noexcept nogil:
    return i < d.count and d.size[i] == n and same_bytes(d.pool + d.start[i], p, n)

cdef int find_name(const Names *d, text p, Py_ssize_t n, u32 *where) noexcept nogil:
    """Index of a name; -1 if it is not in there, and `where` says in which slot it belongs."""
    cdef u32 i = hash_of(p, n) >> 22
    while d.slot[i]:
        if is_name(d, d.slot[i] - 1, p, n):
            return d.slot[i] - 1
        i = (i + 1) & 1023
    where[0] = i
    return -1

cdef int add_name(Names *d, u32 where, text p, Py_ssize_t n) noexcept nogil:
    d.start[d.count] = d.used
    d.size[d.count] = <u8>n
    memcpy(d.pool + d.used, p, n)
    d.used += <u32>n
    d.count += 1
    d.slot[where] = <u16>d.count
    return d.count - 1

cdef inline text name_end(text p, text x, text end, u8 bits) noexcept nogil:
    """Where the name at p ends, looking from x on (what is before is one already); NULL if it is empty or too long."""
    cdef text limit = end if end - p <= NAME_REACH else p + NAME_REACH + 1
    cdef unsigned int stops = 0
    while stops == 0 and limit - x >= 16:
        stops = stops_16(x, bits == APP_BYTE)
        x += __builtin_ctz(stops) if stops else 16
    while stops == 0 and x < limit and NAME_BYTES[x[0]] & bits:
        x += 1
    return x if x > p and x - p <= NAME_REACH else NULL

cdef inline text tag_end(int head, text b, text end, Hit *hit) noexcept nogil:
    """Reads `[pid]: ` or `: ` behind an app's name (RFC 5424: ` pid ` or ` - `); where it ends, or NULL."""
    cdef text first
    cdef i32 pid = 0
    cdef int digits = 0
    if end - b < 2:
        return NULL
    if b[0] == c':':
        return b + 2 if head != 2 and b[1] == c' ' else NULL
    if b[0] != (c' ' if head == 2 else c'['):
        return NULL
    b += 1
    if head == 2 and b[0] == c'-':
        return b + 2 if end - b > 1 and b[1] == c' ' else NULL
    first = b
    if end - b >= 8:
        pid = <i32>digits_run(b, &digits)
        b += digits
    if end - first < 8 or digits == 8:
        while b < end and b - first < PIDS and digit(b[0]):
            pid = pid * 10 + b[0] - 48
            b += 1
    if b == first or (first[0] == c'0' and b - first > 1):      # a leading zero would not come back
        return NULL
    if head == 2:
        b = b + 1 if end - b > 0 and b[0] == c' ' else NULL
    else:
        b = b + 3 if end - b > 2 and b[0] == c']' and b[1] == c':' and b[2] == c' ' else NULL
    if b != NULL:
        hit.pid = pid
        hit.flags |= F_PID
    return b

cdef inline text read_app(Packet *b, int head, text app, text end, Hit *hit, text *app_end) noexcept nogil:
    """`app[pid]: ` at app: where it ends, NULL if it isn't there whole. Sets hit.app, -1: not in the dictionary yet."""
    cdef text x = app
    cdef int size = b.apps.size[b.app]
    if end - app > size and is_name(&b.apps, b.app, app, size):
        x += size                                       # begins like the line before
    app_end[0] = x if x != app and x < end and not NAME_BYTES[x[0]] & APP_BYTE else name_end(app, x, end, APP_BYTE)
    if app_end[0] == NULL:
        return NULL
    hit.app = b.app if size and app_end[0] == app + size and x != app else -1
    return tag_end(head, app_end[0], end, hit)

cdef inline text read_host(Packet *b, text host, text end, Hit *hit) noexcept nogil:
    """Where the host ends, with a space behind it; NULL if there is none. Sets hit.host, -1: not known yet."""
    cdef text x = host + b.hosts.size[b.host]
    hit.host = b.host
    if x < end and x[0] == c' ' and is_name(&b.hosts, b.host, host, x - host):
        return x
    hit.host = -1
    x = name_end(host, host, end, HOST_BYTE)
    return x if x != NULL and x < end and x[0] == c' ' else NULL

cdef inline void read_tail(Packet *b, const Format *f, text end, Hit *hit) noexcept nogil:
    """` host app[pid]: ` behind the time, or RFC 5424's ` host app pid `: moves hit.stop behind what can be taken.

    Without a full tag BSD takes the host alone, ISO nothing: there anything may follow a time."""
    cdef text host = hit.stop + 1, host_end, app, app_end = NULL, stop
    cdef u32 where = 0, app_where = 0
    if end - host < 2 or (host - 1)[0] != c' ':
        return
    if f.kind == ISO and f.head == 0 and not digit(host[0]) and not letter(host[0]):
        return
    host_end = read_host(b, host, end, hit)
    if host_end == NULL:
        return
    app = host_end + 1
    stop = read_app(b, f.head, app, end, hit, &app_end)
    if stop == NULL and f.kind == ISO:
        return
    if hit.host < 0:
        hit.host = find_name(&b.hosts, host, host_end - host, &where)
    if stop != NULL and hit.app < 0:
        hit.app = find_name(&b.apps, app, app_end - app, &app_where)
        if hit.app < 0 and b.apps.count == NAMES_MAX:   # full: the name stays in its line
            stop = NULL
    if (hit.host < 0 and b.hosts.count == NAMES_MAX) or (stop == NULL and f.kind == ISO):
        hit.flags &= ~F_PID
        return
    if hit.host < 0:
        hit.host = add_name(&b.hosts, where, host, host_end - host)
    b.host = hit.host
    hit.flags |= F_HOST
    hit.stop = app
    if stop == NULL:
        hit.flags &= ~F_PID
        return
    if hit.app < 0:
        hit.app = add_name(&b.apps, app_where, app, app_end - app)
    b.app = hit.app
    hit.flags |= F_APP
    hit.stop = stop

# ---------------------------------------------------------------- room in a packet

cdef bint more_lines(Packet *b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t room = 2 * b.lines_room if b.lines_room else 16384
    cdef u8 *lines
    while room < b.lines_size + n:
        room *= 2
    lines = <u8 *>realloc(b.lines, room)
    if lines == NULL:
        return False
    b.lines, b.lines_room = lines, room
    return True

cdef bint more_rows(Packet *b) noexcept nogil:
    """Twice as many rows: new room, and each column copied to its new place."""
    cdef u32 room = 4 * b.rows_room if b.rows_room else 256
    cdef u8 *rows
    cdef u8 *o
    cdef Py_ssize_t n
    cdef int i
    if room > EVENTS_MAX:
        room = EVENTS_MAX
    rows = <u8 *>malloc(<size_t>room * ROW_BYTES)
    if rows == NULL:
        return False
    o = rows + 8 * <Py_ssize_t>room
    if b.count:
        memcpy(rows, b.points, 8 * <Py_ssize_t>b.count)
    for i in range(1, COLUMNS):
        n = b.end[i] - b.column[i]
        if n:
            memcpy(o, b.column[i], n)
        b.column[i], b.end[i] = o, o + n
        o += WIDTHS[i] * <Py_ssize_t>room
    free(b.rows)
    b.rows, b.rows_room, b.points = rows, room, <u64 *>rows
    return True

cdef bint knows_stream(const Packet *b, i64 handle) noexcept nogil:
    cdef int i
    for i in range(b.stream_count - 1, -1, -1):
        if b.streams[i] == handle:
            return True
    return False

cdef int format_index(Packet *b, const Slot *slot) noexcept nogil:
    """This packet's index of a stream's format; -1 if it isn't in the table yet."""
    cdef int i
    cdef u64 k = slot.id % MAPPED
    if b.map_id[k] == slot.id:
        return b.map_index[k]
    for i in range(b.format_count):
        if same_format(&b.formats[i], &slot.format):
            b.map_id[k], b.map_index[k] = slot.id, <u8>i
            return i
    return -1

cdef int start_run(Packet *b, i64 handle, u64 offset, u64 point) noexcept nogil:
    cdef Run *runs
    cdef i64 *streams
    cdef int room
    cdef bint known = knows_stream(b, handle)
    if b.run_count == RUNS_MAX or (not known and b.stream_count == STREAMS_MAX):
        return FULL
    if b.run_count == b.run_room:
        room = 2 * b.run_room if b.run_room else 16
        runs = <Run *>realloc(b.runs, room * sizeof(Run))
        if runs == NULL:
            return NO_MEMORY
        b.runs, b.run_room = runs, room
        b.run = &runs[b.run_count - 1] if b.run_count else &b.no_run
    if not known:
        if b.stream_count == b.stream_room:
            room = 2 * b.stream_room if b.stream_room else 16
            streams = <i64 *>realloc(b.streams, room * sizeof(i64))
            if streams == NULL:
                return NO_MEMORY
            b.streams, b.stream_room = streams, room
        b.streams[b.stream_count] = handle
        b.stream_count += 1
    b.runs[b.run_count].handle = handle
    b.runs[b.run_count].first = b.runs[b.run_count].end = offset
    b.runs[b.run_count].start = point
    b.runs[b.run_count].count = 0
    b.run = &b.runs[b.run_count]
    b.run_count += 1
    b.previous = point
    b.ticks_id = 0
    return DONE

cdef int make_room(Packet *b, const Slot *slot, i64 handle, u64 offset, u64 point, Py_ssize_t size) noexcept nogil:
    """Can the packet take a line of so many raw bytes? Only then it begins a run for it, if one is needed."""
    cdef bint goes_on
    if b.count and (b.raw + size > b.raw_max or b.count >= EVENTS_MAX):
        return FULL
    if slot != NULL and slot.id != b.ticks_id and b.format_count == FORMATS_MAX and format_index(b, slot) < 0:
        return FULL
    if b.lines_size + size + 1 > b.lines_room and not more_lines(b, size + 1):
        return NO_MEMORY
    if b.count == b.rows_room and not more_rows(b):
        return NO_MEMORY
    goes_on = b.run_count and b.run.handle == handle and b.run.end == offset and (slot != NULL or b.previous == point)
    return DONE if goes_on else start_run(b, handle, offset, point)

cdef inline int room_for(Packet *b, const Slot *slot, i64 handle, u64 offset, u64 point, Py_ssize_t size) noexcept nogil:
    """`make_room`, and before it the test that nearly all lines pass: all is as it was for the line before."""
    cdef const Run *run = b.run
    if (b.raw + size <= b.raw_max and b.count < b.rows_room and b.lines_size + size < b.lines_room
            and run.end == offset and run.handle == handle and slot != NULL and slot.id == b.ticks_id):
        return DONE
    return make_room(b, slot, handle, offset, point, size)

# ---------------------------------------------------------------- appending a line

cdef inline void put(Packet *b, int column, u8 value) noexcept nogil:
    cdef u8 *o = b.end[column]
    o[0] = value
    b.end[column] = o + 1

cdef inline void put_points(Packet *b, const Slot *slot, const Hit *hit) noexcept nogil:
    """Which format, and the time as the difference to the row before, in units of the format's last digit."""
    if b.ticks_id != slot.id:
        b.index = format_index(b, slot)
        if b.index < 0:
            b.index = b.format_count
            b.formats[b.index] = slot.format
            b.format_count += 1
            format_index(b, slot)
        b.ticks_id = slot.id
        b.ticks = <i64>(b.previous // slot.format.scale)
    put(b, 2, <u8>b.index)
    b.end[3] = put_varint(b.end[3], zigzag(hit.ticks - b.ticks))
    b.ticks = hit.ticks
    if slot.format.head:
        put(b, 7, hit.pri)

cdef inline void put_tail(Packet *b, const Hit *hit) noexcept nogil:
    if hit.flags & F_HOST:
        put(b, 4, <u8>hit.host)
        if hit.flags & F_APP:
            put(b, 5, <u8>hit.app)
            if hit.flags & F_PID:
                b.end[6] = put_varint_evenly(b.end[6], zigzag(hit.pid - b.pid[hit.app]))
                b.pid[hit.app] = hit.pid

cdef inline void append(Packet *b, text line, Py_ssize_t n, Py_ssize_t size, int flags, u64 point,
                        const Slot *slot, Hit *hit) noexcept nogil:
    """The line's text without its hole, and the columns. There is room: `make_room` said so."""
    cdef u8 *o = b.lines + b.lines_size
    cdef Run *run = b.run
    if slot != NULL:
        put_points(b, slot, hit)
        if slot.format.tail:
            read_tail(b, &slot.format, line + n, hit)
            put_tail(b, hit)
        flags |= hit.flags
        if hit.at:
            memcpy(o, line, hit.at)
            o += hit.at
        n = line + n - hit.stop
        line = hit.stop
    memcpy(o, line, n)
    o[n] = 10
    b.lines_size = o + n + 1 - b.lines
    put(b, 1, <u8>flags)
    b.points[b.count] = point
    b.previous = point
    if point < b.point_min:
        b.point_min = point
    if point > b.point_max:
        b.point_max = point
    b.count += 1
    b.raw += size
    run.count += 1
    run.end += <u64>size

# ---------------------------------------------------------------- a block

cdef struct Task:               # what `take` is told, and what it answers
    State *state
    Packet **packets
    int packet_count
    i64 handle
    text begin
    Py_ssize_t size, used
    u64 offset, arrival, oldest, newest, which
    bint final
    void *router                # (host, app) -> class; NULL: all builders are of one class
    int kind                    # the class of the line at hand

cdef int route(Task *task, const Slot *slot, text end, const Hit *seen) except -1 with gil:
    """The class of a line, by the host and the app that it names; what it names is what `read_tail` could take out."""
    cdef Hit hit = seen[0]                              # read_tail will read on from where it is
    cdef text host = hit.stop + 1, host_end = NULL, app = NULL, app_end = NULL, stop = NULL
    cdef int kind
    if (slot != NULL and slot.format.tail and end - host >= 2 and (host - 1)[0] == c' '
            and (slot.format.kind != ISO or slot.format.head or digit(host[0]) or letter(host[0]))):
        host_end = name_end(host, host, end, HOST_BYTE)
        if host_end != NULL and not (host_end < end and host_end[0] == c' '):
            host_end = NULL
    if host_end != NULL:
        app = host_end + 1
        app_end = name_end(app, app, end, APP_BYTE)
        if app_end != NULL:
            stop = tag_end(slot.format.head, app_end, end, &hit)
        if stop == NULL and slot.format.kind == ISO:
            host_end = NULL
    names = (
        b"" if host_end == NULL else host[:host_end - host],
        b"" if host_end == NULL or stop == NULL else app[:app_end - app],
    )
    kind = (<object>task.router)[names]
    return kind

cdef inline text line_end(text p, text stop, bint final, Py_ssize_t *n, int *flags) noexcept nogil:
    """Where the next line begins, its length and flags; NULL if this one is not complete."""
    cdef Py_ssize_t left = stop - p
    cdef text q = <text>memchr(p, 10, left if left <= LINE_MAX else LINE_MAX + 1)
    flags[0] = 0
    if q != NULL:
        n[0] = q - p
        if q > p and (q - 1)[0] == 13:
            n[0] -= 1
            flags[0] = F_CRLF
        return q + 1
    if left > LINE_MAX:
        n[0] = LINE_MAX
        flags[0] = F_OPEN | F_PART
        return p + LINE_MAX
    n[0] = left
    flags[0] = F_OPEN
    return stop if final else NULL

cdef Packet *choose(Task *task, u64 point, int *which) noexcept nogil:
    """The packet that takes this point: of the builders for its time, or the one for what is late or early."""
    cdef int i
    cdef Packet *b
    cdef bint timely = task.oldest <= point < task.newest
    for i in range(task.packet_count):
        b = task.packets[i]
        if task.router != NULL and b.kind != task.kind:
            continue
        if b.open and (b.low <= point < b.high and not b.late if timely else b.late):
            which[0] = i
            return b
    return NULL

cdef inline void remember(State *s, const Slot *slot, text line, Py_ssize_t n, const Hit *hit) noexcept nogil:
    """A time that begins its line, in full seconds and followed by a space and a letter: who has the same has its ticks."""
    cdef const Format *f = &slot.format
    cdef int size = f.text_len + 2
    if f.digits or f.zone_len or f.head or f.anchor_len or f.kind == EPOCH or f.kind == CTIME or n < size:
        return
    if line[size - 2] == c' ' and letter(line[size - 1]):
        s.again.id, s.again.ticks, s.again.size = slot.id, hit.ticks, size
        memcpy(s.again.text, line, size)

cdef inline int time_of(State *s, text line, Py_ssize_t n, Hit *hit) noexcept nogil:
    """Index of the format of the line's time, -1 if it has none."""
    cdef Slot *slot
    hit.flags = F_TIME
    if s.part or n < 10:                                # the rest of a line has no time of its own
        return -1
    if s.current >= 0:
        slot = &s.slots[s.current]
        if s.again.id == slot.id and n >= s.again.size and same_bytes(line, s.again.text, s.again.size):
            hit.ticks, hit.at, hit.stop = s.again.ticks, 0, line + s.again.size - 2
            return s.current
        if match(s, &slot.format, line, n, hit):
            remember(s, slot, line, n, hit)
            return s.current
    return learn(s, line, n, hit)

cdef inline void count_line(State *s, int index, int flags, u64 point) noexcept nogil:
    """The line is taken: what the stream learns from it, and only now."""
    if index >= 0:
        s.current = index
        s.slots[index].hits += 1
        if yearless(&s.slots[index].format):
            s.year, s.month = s.minute.year, s.minute.month
        s.timed = True
    s.point = point
    s.part = (flags & F_OPEN) != 0
    s.lines += 1
    if s.lines == PERIOD:
        forget(s)

cdef int take(Task *task) except -1 nogil:
    """Lines of the block into packets, until the block ends or a packet is missing or full."""
    cdef State *s = task.state
    cdef Packet *b = NULL
    cdef text p = task.begin, stop = task.begin + task.size, following
    cdef Py_ssize_t n
    cdef int flags, index, budget, why = DONE, which = 0, kind = -1
    cdef u64 point, low = 0, high = 0
    cdef Slot *slot
    cdef Hit hit
    while p < stop:
        following = line_end(p, stop, task.final, &n, &flags)
        if following == NULL:
            break
        budget = s.budget
        index = time_of(s, p, n, &hit)
        slot = &s.slots[index] if index >= 0 else NULL
        point = <u64>hit.ticks * slot.format.scale if index >= 0 else (s.point if s.timed else task.arrival)
        if task.router != NULL:                         # a line without a time belongs to the one before
            task.kind = s.kind if index < 0 and s.timed else route(task, slot, p + n, &hit)
            if task.kind != kind:
                low = high = 0
            kind = task.kind
        if not low <= point < high:                     # another packet than for the line before
            b = choose(task, point, &which)
            if b == NULL:
                why = NEED
            elif not b.late:
                low = b.low if b.low > task.oldest else task.oldest
                high = b.high if b.high < task.newest else task.newest
            else:
                low = high = 0
        if why == DONE:
            why = room_for(b, slot, task.handle, task.offset + <u64>(p - task.begin), point, following - p)
        if why != DONE:
            if index < 0:
                s.budget = budget                       # it will be searched again
            break
        append(b, p, n, following - p, flags, point, slot, &hit)
        count_line(s, index, flags, point)
        s.kind = kind
        p = following
    task.used = p - task.begin
    task.which = point if why == NEED else <u64>which
    return why

# ---------------------------------------------------------------- for Python

cdef u64 STREAMS = 0            # made in this process: no two formats have the same id

cdef class Stream:
    """Format state of one stream; survives packets. `hint`: a point near which dates without a year lie.

    Set `route`, a map from (host, app) to a class, to deal lines by what they name: `encode` then takes builders of all
    classes, and says in `wanted` of which class a line is that needs another."""
    cdef State s
    cdef public object route
    cdef public int wanted

    def __cinit__(self, u64 hint=0, state=b""):
        global STREAMS
        STREAMS += 1
        memset(&self.s, 0, sizeof(State))
        self.s.hint = hint
        self.s.current = -1
        self.s.budget = SEARCHES
        self.s.next_id = (STREAMS << 24) + 1
        if len(state):
            self.restore(_learned.Learned.decode(state))

    def __dealloc__(self):
        free(self.s.slots)

    cdef restore(self, given):
        cdef Format f
        for known, hits in zip(given.formats, given.hits):
            load_format(&f, known)
            if intern(&self.s, &f) < 0:
                raise ColumnsError("a stream's state with too many formats")
            self.s.slots[self.s.count - 1].hits = hits
        if self.s.count != len(given.formats):
            raise ColumnsError("a stream's state with the same format twice")
        self.s.hint, self.s.point, self.s.timed, self.s.part = given.hint, given.point, given.timed, given.part
        self.s.year, self.s.month, self.s.lines = given.year, given.month, given.lines
        self.s.budget, self.s.current = given.budget, given.current

    def state(self):
        """What a checkpoint keeps: `Stream(state=…)` goes on just as this one would."""
        cdef State *s = &self.s
        return _learned.Learned(
            s.hint, s.point, bool(s.timed), bool(s.part), s.year, s.month, s.lines, s.budget, s.current,
            tuple([dump_format(&s.slots[i].format) for i in range(s.count)]), tuple([s.slots[i].hits for i in range(s.count)]),
        ).encode()

    @property
    def point(self):
        """The point of the last line; 0: none yet. Setting it is setting what a line without a time gets."""
        return self.s.point

    @point.setter
    def point(self, u64 value):
        self.s.point = value
        self.s.timed = value != 0

    @property
    def part(self):
        """The last event had no line end: the next one goes on with its line."""
        return bool(self.s.part)

    @part.setter
    def part(self, bint value):
        self.s.part = value

    @property
    def timed(self):
        """A line had a time of its own."""
        return bool(self.s.timed)


cdef class Room:
    """Memory that views look at: freed with the last of them, taken back by its builder if there is none."""
    cdef u8 *data
    cdef Py_ssize_t size
    cdef int views

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.views -= 1

    def __dealloc__(self):
        free(self.data)


cdef view_of(Room room, u8 *data, Py_ssize_t size):
    room.data, room.size = data, size
    return memoryview(room)


cdef class Builder:
    """The columns of one open packet, of several streams."""
    cdef Packet *b
    cdef Room lines_room, rows_room
    cdef int fresh_run
    cdef u64 fresh_end
    cdef bint lent                                      # the views' room has the buffers

    def __cinit__(self, Py_ssize_t raw_max=_limits.PACKET_RAW_MAX):
        if not 0 < raw_max <= 1 << 28:
            raise ValueError("raw_max")
        self.b = <Packet *>calloc(1, sizeof(Packet))
        if self.b == NULL:
            raise MemoryError
        self.b.raw_max = raw_max
        self.b.run = &self.b.no_run

    def __dealloc__(self):
        if self.b != NULL:
            if not self.lent:                           # a garbage collection may have cleared lines_room before
                free(self.b.lines)
                free(self.b.rows)
            free(self.b.runs)
            free(self.b.streams)
            free(self.b)

    cdef void take_back(self):
        """The buffers of the last packet again, unless someone still looks at them, or they are far larger than needed."""
        cdef Packet *b = self.b
        cdef bint keep_lines = b.count == 0 or b.lines_size > b.lines_room // 8
        cdef bint keep_rows = b.count == 0 or b.count > b.rows_room // 16
        if self.lines_room is not None:
            keep_lines = keep_lines and self.lines_room.views == 0
            keep_rows = keep_rows and self.rows_room.views == 0
            if keep_lines:
                self.lines_room.data = NULL
            if keep_rows:
                self.rows_room.data = NULL
            self.lines_room = self.rows_room = None
            self.lent = False
        else:
            if not keep_lines:
                free(b.lines)
            if not keep_rows:
                free(b.rows)
        if not keep_lines:
            b.lines, b.lines_room = NULL, 0
        if not keep_rows:
            b.rows, b.points, b.rows_room = NULL, NULL, 0

    def open(self, u64 low, u64 high, bint late=False, int kind=0):
        """An empty packet for points low <= p < high; `late`: for all points that are too late or too early.

        `kind` is its class, for streams with a `route`."""
        cdef Packet *b = self.b
        cdef int i
        self.take_back()
        b.low, b.high, b.late, b.open = low, high, late, True
        b.raw = b.count = b.lines_size = b.run_count = b.stream_count = b.format_count = b.host = b.app = 0
        b.point_max = b.previous = b.ticks_id = 0
        b.point_min = <u64>-1
        b.run = &b.no_run
        for i in range(1, COLUMNS):
            if b.rows == NULL:
                b.column[i] = NULL
            b.end[i] = b.column[i]
        memset(b.map_id, 0, sizeof(b.map_id))
        memset(b.pid, 0, sizeof(b.pid))
        empty_names(&b.hosts)
        empty_names(&b.apps)
        self.fresh_run = 0
        self.fresh_end = 0
        b.kind = kind

    @property
    def raw(self):
        """Bytes of the sources that are in here."""
        return self.b.raw

    @property
    def count(self):
        return self.b.count

    @property
    def point_min(self):
        return self.b.point_min if self.b.count else 0

    @property
    def point_max(self):
        return self.b.point_max

    @property
    def low(self):
        return self.b.low

    @property
    def high(self):
        return self.b.high

    @property
    def late(self):
        return bool(self.b.late)

    def fresh(self):
        """(handle, first, end) of what came since the last call, for who hashes it; contiguous ones joined."""
        cdef Packet *b = self.b
        cdef Run *run
        cdef u64 first
        cdef list found = []
        cdef int i
        for i in range(self.fresh_run, b.run_count):
            run = &b.runs[i]
            first = run.first
            if i == self.fresh_run and self.fresh_end > first:
                first = self.fresh_end
            if run.end == first:
                continue
            if found:                                   # no found[-1]: wraparound is off
                handle, begin, end = found[len(found) - 1]
                if handle == run.handle and end == first:
                    found[len(found) - 1] = (handle, begin, run.end)
                    continue
            found.append((run.handle, first, run.end))
        if b.run_count:
            self.fresh_run = b.run_count - 1
            self.fresh_end = b.runs[b.run_count - 1].end
        return found

    def runs(self):
        """(handle, first, end, count, start point) of each run, in the order of the rows."""
        cdef Run *run
        cdef list found = []
        cdef int i
        for i in range(self.b.run_count):
            run = &self.b.runs[i]
            found.append((run.handle, run.first, run.end, run.count, run.start))
        return found

    def finish(self):
        """The columns. The builder takes no more lines until it is opened again; the views may outlive that."""
        cdef Packet *b = self.b
        cdef int i
        if self.lines_room is not None or not b.open:
            raise ValueError("a builder that is not open")
        b.open = False
        sizes = tuple([b.lines_size] + [b.end[i] - b.column[i] for i in range(1, COLUMNS)])
        small = b"".join([PyBytes_FromStringAndSize(<char *>b.column[i], b.end[i] - b.column[i]) for i in range(1, COLUMNS)])
        formats = tuple([dump_format(&b.formats[i]) for i in range(b.format_count)])
        self.lines_room, self.rows_room = Room(), Room()
        self.lent = True
        lines = view_of(self.lines_room, b.lines, b.lines_size)
        points = view_of(self.rows_room, b.rows, 8 * <Py_ssize_t>b.count).cast("Q")
        return _formats.Columns(lines, memoryview(small), sizes, formats, names_of(&b.hosts), names_of(&b.apps), points)


cdef void empty_names(Names *d) noexcept:
    d.count = d.used = 0
    memset(d.size, 0, sizeof(d.size))
    memset(d.slot, 0, sizeof(d.slot))


cdef names_of(const Names *d):
    return tuple([<bytes>d.pool[d.start[i]:d.start[i] + d.size[i]] for i in range(d.count)])


def encode(Stream stream not None, i64 handle, const u8[::1] block, Py_ssize_t start, u64 offset, u64 arrival, bint final,
           builders, u64 oldest, u64 newest):
    """Lines of block[start:], which begin at the stream's `offset`, into builders: (used, why, which).

    DONE: no complete line is left. NEED: the next line's point (`which`) is in no builder's range. FULL: builders[which]
    can't take the next line. `final`: what is left without a line end is an event too."""
    cdef Packet *packets[16]
    cdef Task task
    cdef int why
    cdef tuple held = tuple(builders)
    if not 0 <= start <= block.shape[0] or len(held) > 16:
        raise ValueError("start beyond the block, or too many builders")
    for i, builder in enumerate(held):
        packets[i] = (<Builder?>builder).b
    task.state, task.packets, task.packet_count = &stream.s, packets, <int>len(held)
    task.handle, task.offset, task.arrival, task.final = handle, offset, arrival, final
    task.oldest, task.newest, task.size = oldest, newest, block.shape[0] - start
    task.which = 0
    task.router, task.kind = NULL if stream.route is None else <void *>stream.route, 0
    if task.size == 0:
        return start, DONE, 0
    task.begin = &block[0] + start
    with nogil:
        why = take(&task)
    if why == NO_MEMORY:
        raise MemoryError
    stream.wanted = task.kind
    return start + task.used, why, task.which
