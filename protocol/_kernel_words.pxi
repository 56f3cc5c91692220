# Several bytes at once: looking for a pair of bytes, for the end of a name, reading digits, comparing a few bytes.
#
# For the short pieces of a line a call of the C library costs more than its work. Nothing here reads beyond the `end`
# that it is given. Lines are copied by memcpy all the same: wider copies that write beyond a line's end, and so just
# where the next line goes, made processors wait for earlier stores, and files without times five times slower.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif

    /* Of the 16 bytes at p: a bit for each one that is a and has b at the same place from q on. */
    static inline unsigned pairs_16(const uint8_t *p, const uint8_t *q, uint8_t a, uint8_t b) {
    #ifdef __SSE2__
        __m128i x = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8((char)a));
        __m128i y = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)q), _mm_set1_epi8((char)b));
        return (unsigned)_mm_movemask_epi8(_mm_and_si128(x, y));
    #else
        unsigned found = 0;
        for (int i = 0; i < 16; i++) found |= (unsigned)(p[i] == a && q[i] == b) << i;
        return found;
    #endif
    }

    /* Of the 16 bytes at p: a bit for each one that is no printable ASCII, or (app) is one of [ and : */
    static inline unsigned stops_16(const uint8_t *p, int app) {
    #ifdef __SSE2__
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        __m128i good = _mm_andnot_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(127)), _mm_cmpgt_epi8(x, _mm_set1_epi8(32)));
        unsigned bad = (unsigned)_mm_movemask_epi8(good) ^ 0xFFFF;
        if (app)
            bad |= (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('[')),
                                                            _mm_cmpeq_epi8(x, _mm_set1_epi8(':'))));
        return bad;
    #else
        unsigned bad = 0;
        for (int i = 0; i < 16; i++)
            bad |= (unsigned)(p[i] < 33 || p[i] > 126 || (app && (p[i] == '[' || p[i] == ':'))) << i;
        return bad;
    #endif
    }

    /* The number that the first n (1 to 8) of the 8 bytes at p are as digits, -1 if one is none. */
    static inline int64_t digits_8(const uint8_t *p, int n) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        uint64_t v;
        memcpy(&v, p, 8);
        v = (v ^ 0x3030303030303030ULL) << (64 - 8 * n);        /* zeros before, nothing after */
        if ((v | (v + 0x0606060606060606ULL)) & 0xF0F0F0F0F0F0F0F0ULL) return -1;
        v = v * 10 + (v >> 8);
        return (int64_t)((((v & 0x000000FF000000FFULL) * 0x000F424000000064ULL)
                          + (((v >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL)) >> 32);
    #else
        int64_t v = 0;
        for (int i = 0; i < n; i++) {
            if (p[i] < '0' || p[i] > '9') return -1;
            v = v * 10 + p[i] - '0';
        }
        return v;
    #endif
    }

    /* How many of the 8 bytes at p are digits, up to the first that is none, and the number that they are. */
    static inline int64_t digits_run(const uint8_t *p, int *n) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= 0x3030303030303030ULL;
        v = (v | (v + 0x0606060606060606ULL)) & 0xF0F0F0F0F0F0F0F0ULL;
        *n = v ? __builtin_ctzll(v) >> 3 : 8;
    #else
        for (*n = 0; *n < 8 && p[*n] >= '0' && p[*n] <= '9';) ++*n;
    #endif
        return *n ? digits_8(p, *n) : 0;
    }
    """
    unsigned int pairs_16(text p, text q, u8 a, u8 b) nogil
    unsigned int stops_16(text p, bint app) nogil
    i64 digits_8(text p, int n) nogil
    i64 digits_run(text p, int *n) nogil
    int __builtin_ctz(unsigned int) nogil

cdef inline bint same_bytes(const u8 *a, const u8 *b, Py_ssize_t n) noexcept nogil:
    cdef u64 v, w
    cdef u32 x, y
    cdef Py_ssize_t k = 0
    if n >= 8:
        while k < n - 8:
            memcpy(&v, a + k, 8)
            memcpy(&w, b + k, 8)
            if v != w:
                return False
            k += 8
        memcpy(&v, a + n - 8, 8)                        # the last word overlaps the one before
        memcpy(&w, b + n - 8, 8)
        return v == w
    if n >= 4:
        memcpy(&x, a, 4)
        memcpy(&y, b, 4)
        if x != y:
            return False
        memcpy(&x, a + n - 4, 4)
        memcpy(&y, b + n - 4, 4)
        return x == y
    while k < n:
        if a[k] != b[k]:
            return False
        k += 1
    return True

cdef inline u32 hash_of(text p, Py_ssize_t n) noexcept nogil:
    """Of a name; the upper half is well mixed."""
    cdef u64 h = <u64>n * 0x9E3779B97F4A7C15U, w = 0
    cdef Py_ssize_t k = 0
    while n - k >= 8:
        memcpy(&w, p + k, 8)
        h = (h ^ w) * 0x9E3779B97F4A7C15U
        h ^= h >> 32
        k += 8
    w = 0
    while k < n:
        w = w << 8 | p[k]
        k += 1
    h = (h ^ w) * 0x9E3779B97F4A7C15U
    return <u32>(h >> 32)

cdef text find_bytes(text p, text end, const u8 *needle, Py_ssize_t size) noexcept nogil:
    """Where a needle of two bytes or more stands first, NULL if nowhere: its first and last byte tell most places."""
    cdef unsigned int found
    cdef text q
    while end - p >= size + 15:
        found = pairs_16(p, p + size - 1, needle[0], needle[size - 1])
        while found:
            q = p + __builtin_ctz(found)
            if same_bytes(q, needle, size):
                return q
            found &= found - 1
        p += 16
    while end - p >= size:
        if p[0] == needle[0] and same_bytes(p, needle, size):
            return p
        p += 1
    return NULL
