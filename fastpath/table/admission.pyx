"""Limits of a vip: live connections and new ones a second, over all and by source."""

from fastpath.base.limit cimport sketch_enter, sketch_leave, sketch_recent, window_add
from fastpath.base.linux.atomic cimport add_u32, sub_u32
from fastpath.base.stats cimport (
    DROP_LIMIT_CONNECTIONS,
    DROP_LIMIT_RATE,
    DROP_LIMIT_SOURCE_CONNECTIONS,
    DROP_LIMIT_SOURCE_RATE,
)


cdef int vip_enter(const vip_t* v) noexcept nogil:
    # Add, then look: two workers never both take the last place. A client too many is
    # taken out by vip_leave.
    cdef uint32_t live = add_u32(&v.state.active, 1)

    if v.max_live > 0 and live > v.max_live:
        return DROP_LIMIT_CONNECTIONS
    return -1


cdef int vip_judge(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil:
    cdef uint32_t now_s = <uint32_t>(now_ms // 1000)

    # A source with too many connections is refused before the vip's rate counts it: it
    # does not use up the rate of the others.
    if v.max_live_source > 0:
        # For vip_leave: by then another table may begin or end to limit by source, and
        # what is taken out must be what was counted.
        by_source[0] = 1
        if sketch_enter(v.state.sketch, source) > v.max_live_source:
            return DROP_LIMIT_SOURCE_CONNECTIONS
    if v.max_new > 0 and window_add(&v.state.recent, now_s) > v.max_new:
        return DROP_LIMIT_RATE
    if v.max_new_source > 0 and (
        sketch_recent(v.state.sketch, source, now_s) > v.max_new_source
    ):
        return DROP_LIMIT_SOURCE_RATE
    return -1


cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil:
    cdef int limit = vip_enter(v)
    return limit if limit >= 0 else vip_judge(v, source, now_ms, by_source)


cdef void vip_leave(
    vip_state_t* vip, uint64_t source, bint by_source
) noexcept nogil:
    if by_source:
        sketch_leave(vip.sketch, source)
    # Last: Python may free the state of a vip without clients, sketch and all.
    sub_u32(&vip.active, 1)
