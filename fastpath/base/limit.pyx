"""Counting sources without remembering them: a count-min sketch of two rows
(Cormode and Muthukrishnan, 2005), with atomics instead of a lock."""

from libc.stdlib cimport calloc, free

from fastpath.base.linux.atomic cimport add_u32, cas_u64, load_u64, sub_u32


cdef inline uint32_t sketch_column(uint64_t source, int row) noexcept nogil:
    # `source` is a good hash: each row takes its own sixteen bits.
    return <uint32_t>(source >> (16 * row)) % SKETCH_WIDTH


cdef uint32_t window_add(uint64_t* window, uint32_t now_s) noexcept nogil:
    cdef uint64_t seen = load_u64(window)
    cdef uint64_t want

    while True:
        # Another worker may be a turn ahead of our clock: never move back.
        want = seen + 1 if seen >> 32 >= now_s else (<uint64_t>now_s << 32) | 1
        if cas_u64(window, &seen, want):
            return <uint32_t>want


cdef uint32_t sketch_enter(sketch_t* s, uint64_t source) noexcept nogil:
    cdef uint32_t least = 0xffffffff
    cdef uint32_t count
    cdef int row

    for row in range(SKETCH_ROWS):
        count = add_u32(&s.live[row][sketch_column(source, row)], 1)
        if count < least:
            least = count
    return least


cdef void sketch_leave(sketch_t* s, uint64_t source) noexcept nogil:
    cdef int row

    for row in range(SKETCH_ROWS):
        sub_u32(&s.live[row][sketch_column(source, row)], 1)


cdef uint32_t sketch_recent(
    sketch_t* s, uint64_t source, uint32_t now_s
) noexcept nogil:
    cdef uint32_t least = 0xffffffff
    cdef uint32_t count
    cdef int row

    for row in range(SKETCH_ROWS):
        count = window_add(&s.recent[row][sketch_column(source, row)], now_s)
        if count < least:
            least = count
    return least


cdef class Sketch:
    """A sketch for tests, and a window: the test gives sources and seconds."""

    cdef sketch_t* sketch
    cdef uint64_t window

    def __cinit__(self):
        self.sketch = <sketch_t*>calloc(1, sizeof(sketch_t))
        if self.sketch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.sketch)

    def enter(self, uint64_t source):
        return sketch_enter(self.sketch, source)

    def leave(self, uint64_t source):
        sketch_leave(self.sketch, source)

    def recent(self, uint64_t source, uint32_t now_s):
        return sketch_recent(self.sketch, source, now_s)

    def add(self, uint32_t now_s):
        """Count in the one window, that of a whole vip."""
        return window_add(&self.window, now_s)
