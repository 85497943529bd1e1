"""Content codings that requests ask for."""

from libc.string cimport memcpy

from fastpath.http1.field cimport is_blank


cdef bint is_known(const char* name, uint32_t size) noexcept nogil:
    return size == 4 and same(name, 4, b"gzip") or (
        size == 6 and same(name, 6, b"x-gzip")
        or size == 7 and same(name, 7, b"deflate")
        or size == 8 and same(name, 8, b"identity")
    )


# Whether a member is kept: by its name, up to the weight. "*" stands for all others.
cdef bint is_kept(const char* at, const char* end) noexcept nogil:
    cdef const char* name = at

    while at < end and at[0] != b";" and not is_blank(at[0]):
        at += 1
    return is_known(name, <uint32_t>(at - name))


# The members of a value that are kept, and how many bytes that is.
cdef uint32_t members(char* into, const char* at, const char* end) noexcept nogil:
    cdef const char* from_
    cdef const char* last
    cdef uint32_t used = 0

    while at < end:
        from_ = at
        while at < end and at[0] != b",":
            at += 1
        last = at
        at += 1
        while from_ < last and is_blank(from_[0]):
            from_ += 1
        while last > from_ and is_blank((last - 1)[0]):
            last -= 1
        if not is_kept(from_, last):
            continue
        if used > 0:
            memcpy(into + used, b", ", 2)
            used += 2
        memcpy(into + used, from_, last - from_)
        used += <uint32_t>(last - from_)
    return used


cdef uint32_t codings_line(
    char* into, const char* bytes, const header_t* h
) noexcept nogil:
    cdef const char* value = bytes + h.value.at
    cdef uint32_t size = h.name.size
    cdef uint32_t used

    memcpy(into, bytes + h.name.at, size)
    memcpy(into + size, b": ", 2)
    size += 2
    used = members(into + size, value, value + h.value.size)
    if used == 0:
        memcpy(into + size, b"identity", 8)
        used = 8
    memcpy(into + size + used, b"\r\n", 2)
    return size + used + 2
