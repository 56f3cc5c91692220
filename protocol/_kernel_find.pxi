# Looking for bytes: in lines, in anchors, and in holes that are not there to be searched. Used by _kernel_out.pxi.

cdef enum:
    SHAPES_MAX = 1024       # kinds of holes that `find` remembers; a power of two
    PATTERN_MAX = HOLE_MAX
    NEEDLE_LONG = 300       # above this `find` doesn't work out which holes could hold the needle, it prints them all

cdef inline text first_of(text p, text end, text needle, Py_ssize_t size) noexcept nogil:
    """Where the needle stands first, or NULL. Its size must not be 0."""
    if size > end - p:
        return NULL
    return <text>memmem(p, <size_t>(end - p), needle, <size_t>size)

cdef inline text after_anchor(const Format *f, text line, Py_ssize_t size) noexcept nogil:
    """Behind the first occurrence of the anchor, or NULL; cheaper than memmem for the few bytes before it."""
    cdef text p = line, last = line + size - f.anchor_len
    while p <= last:
        p = <text>memchr(p, f.anchor[0], <size_t>(last - p + 1))
        if p == NULL:
            return NULL
        if memcmp(p, f.anchor, f.anchor_len) == 0:
            return p + f.anchor_len
        p += 1
    return NULL

cdef bint valid_utf8(text p, text end) noexcept nogil:
    """As Python reads it: no overlong form, no surrogate, nothing beyond U+10FFFF."""
    cdef u64 word
    cdef u8 c
    cdef u8 low, high
    cdef int more
    while p < end:
        while end - p >= 8:
            memcpy(&word, p, 8)
            if word & 0x8080808080808080U:
                break
            p += 8
        if p == end:
            break
        c = p[0]
        p += 1
        if c < 128:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif 0xF0 <= c <= 0xF4:
            more = 3
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        else:
            return False
        if end - p < more or not low <= p[0] <= high:
            return False
        if more > 1 and p[1] & 0xC0 != 0x80 or more > 2 and p[2] & 0xC0 != 0x80:
            return False
        p += more
    return True

cdef bint is_ascii(text p, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i, end
    cdef u8 seen
    cdef Py_ssize_t at = 0
    while at < size:
        end = at + 4096 if size - at > 4096 else size
        seen = 0
        for i in range(at, end):
            seen |= p[i]
        if seen & 128:
            return False
        at = end
    return True

# ---------------------------------------------------------------- which holes could hold a needle
#
# A row's hole is not printed to be searched: most needles cannot stand in most holes. What a hole can look like follows
# from its format, its names and whether it has a pid, and few such shapes come up in a packet. Each is written as a
# pattern, one set of bytes a place, a place that may repeat (digits of numbers) marked; the anchor stands before it,
# anything after it. Walking the needle through the pattern tells whether they could overlap; only then, and only in
# those rows, is the hole printed and searched.

cdef enum Answer:
    UNKNOWN, NEVER, ALWAYS, PERHAPS

cdef struct Place:
    u8 kind                 # of Places; PLACE_BYTE: that one byte
    u8 byte

cdef enum Places:
    PLACE_BYTE, PLACE_DIGIT, PLACE_NUMBER, PLACE_MONTH_1, PLACE_MONTH_2, PLACE_MONTH_3, PLACE_DAY_1, PLACE_DAY_2, \
        PLACE_DAY_3, PLACE_PADDED

cdef u8[10][256] PLACE_SETS

def _load_sets():
    digits = b"0123456789"
    months, days = (<bytes>MONTH_NAMES), (<bytes>DAY_NAMES)
    sets = (b"", digits, digits, months[::3], months[1::3], months[2::3],
            days[::3], days[1::3], days[2::3], digits + b" ")
    for i, members in enumerate(sets):
        for c in members:
            PLACE_SETS[i][c] = PLACE_SETS[i][LOWER[c]] = 1      # too much rather than too little: holes are looked at
_load_sets()

cdef struct Pattern:
    Place[PATTERN_MAX] places
    int size

cdef inline void place(Pattern *p, u8 kind, u8 byte) noexcept nogil:
    if p.size < PATTERN_MAX:
        p.places[p.size].kind, p.places[p.size].byte = kind, byte
        p.size += 1

cdef void place_text(Pattern *p, text data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        place(p, PLACE_BYTE, data[i])

cdef void place_digits(Pattern *p, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        place(p, PLACE_DIGIT, 0)

cdef void place_time(Pattern *p, const Format *f) noexcept nogil:
    cdef const u8 *shape = SHAPE[f.kind]
    cdef int i = 0
    cdef u8 c
    while shape[i]:
        c = shape[i]
        i += 1
        if c == c'b' or c == c'D':
            place(p, PLACE_MONTH_1 if c == c'b' else PLACE_DAY_1, 0)
            place(p, PLACE_MONTH_2 if c == c'b' else PLACE_DAY_2, 0)
            place(p, PLACE_MONTH_3 if c == c'b' else PLACE_DAY_3, 0)
        elif c == c'e':
            place(p, PLACE_PADDED, 0)
            place(p, PLACE_DIGIT, 0)
        elif c == c'Y':
            place_digits(p, 4)
        elif c == c'y' or c == c'm' or c == c'd' or c == c'H' or c == c'M':
            place_digits(p, 2)
        else:
            place(p, PLACE_BYTE, f.sep if c == c'?' else c)
    place_digits(p, 10 if f.kind == EPOCH else 2)
    if f.mark:
        place(p, PLACE_BYTE, f.mark)
    place_digits(p, f.digits)
    place_text(p, f.zone, f.zone_out)

cdef void place_pid(Pattern *p, bint has_pid, int head) noexcept nogil:
    """As `put_pid` prints it."""
    if has_pid:
        place(p, PLACE_BYTE, c' ' if head == 2 else c'[')
        place(p, PLACE_NUMBER, 0)
        if head != 2:
            place(p, PLACE_BYTE, c']')
            place(p, PLACE_BYTE, c':')
    elif head == 2:
        place(p, PLACE_BYTE, c' ')
        place(p, PLACE_BYTE, c'-')
    else:
        place(p, PLACE_BYTE, c':')
    place(p, PLACE_BYTE, c' ')

cdef bint could_overlap(const Pattern *p, const Format *f, text needle, Py_ssize_t size, bint fold) noexcept nogil:
    """Is there a line with such a hole in which the needle shares a byte with it?"""
    cdef u8[PATTERN_MAX + 1] now, then
    cdef Py_ssize_t i, j
    cdef const Place *at
    cdef u8 c
    cdef bint fits
    memset(now, 1, p.size)
    now[p.size] = 0
    for i in range(size):
        c = needle[i]
        memset(then, 0, p.size + 1)
        then[p.size] = now[p.size]              # behind the hole anything may follow
        for j in range(p.size):
            if not now[j]:
                continue
            at = &p.places[j]
            if at.kind == PLACE_BYTE:
                fits = (LOWER[at.byte] if fold else at.byte) == c
            else:
                fits = PLACE_SETS[at.kind][c]
            if fits:
                then[j + 1] = 1
                if at.kind == PLACE_NUMBER:
                    then[j] = 1
        if i + 1 < size and ends_anchor(f, needle, i + 1, fold):
            then[0] = 1                         # the hole begins with the needle's next byte
        memcpy(now, then, p.size + 1)
    for j in range(1, p.size + 1):
        if now[j]:
            return True
    return False

cdef bint ends_anchor(const Format *f, text needle, Py_ssize_t size, bint fold) noexcept nogil:
    """Could what stands before a hole end with these first bytes of the needle?"""
    cdef Py_ssize_t k, n = size if size < f.anchor_len else f.anchor_len
    cdef u8 c
    if f.anchor_len == 0:
        return False                            # such a hole begins the line
    for k in range(1, n + 1):
        c = f.anchor[f.anchor_len - k]
        if (LOWER[c] if fold else c) != needle[size - k]:
            return False
    return True

cdef bint name_holds(const Name *name, text needle, Py_ssize_t size, bint fold) noexcept nogil:
    cdef u8[256] folded
    cdef Py_ssize_t i
    if not fold:
        return first_of(name.data, name.data + name.size, needle, size) != NULL
    for i in range(name.size):
        folded[i] = LOWER[name.data[i]]
    return first_of(folded, folded + name.size, needle, size) != NULL

cdef struct Shapes:                             # a hash table of the shapes met
    u64[SHAPES_MAX] keys
    u8[SHAPES_MAX] answers
    int count

cdef struct Search:
    text needle
    Py_ssize_t size
    bint fold
    u8 *room                                    # for the window around a hole: HOLE_MAX + 2 * size + SLACK
    Shapes shapes
    Pattern pattern
    Clock clock
