"""Upgraded exchanges: bytes both ways, each direction ended for itself."""

from libc.stdint cimport uint32_t, uint64_t

from fastpath.base.spill cimport mover_t
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_RESET_BY_BACKEND,
    DROP_RESET_BY_CLIENT,
)
from fastpath.http.body cimport (
    CARRY,
    CARRY_DONE,
    CARRY_MORE,
    CARRY_SOURCE,
    CARRY_WAIT,
    pending_send,
    tunnel_carry,
)
from fastpath.http.conn cimport (
    STEP_GONE,
    STEP_ON,
    STEP_TURN,
    STEP_WAIT,
    exchange_count,
    exchange_drop,
    exchange_until,
    input_bytes,
    input_drop,
    vip_of,
)
from fastpath.http.state cimport CONN_TUNNEL
from fastpath.table.table cimport vip_t
from fastpath.tls.transport cimport SHUT_LATER, transport_shut


# ---- Upgrades.

cdef STEP exchange_tunnel(conns_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef uint32_t rest = x.input.used - x.held if x.input != NULL else 0
    cdef int failed = 0

    exchange_count(w, x)
    x.state = CONN_TUNNEL
    x.request.done = 0
    x.response.done = 0
    # What the client said behind its request was not for HTTP.
    if rest > 0:
        failed = pending_send(
            m, &x.to_up, &x.up.link, input_bytes(x) + x.held, rest
        )
    input_drop(w, x)
    x.held = 0
    if failed < 0:
        exchange_drop(w, x, DROP_RESET_BY_BACKEND)
        return STEP_GONE
    tunnel_until(w, x)
    return STEP_ON


cdef void tunnel_until(conns_t* w, exchange_t* x) noexcept nogil:
    cdef vip_t* v = vip_of(w, x)
    exchange_until(w, x, v.idle_ms if v != NULL else 3600000)


cdef STEP tunnel_failed(
    conns_t* w, exchange_t* x, CARRY carry, bint up
) noexcept nogil:
    cdef bint client = (carry == CARRY_SOURCE) == up

    exchange_drop(w, x, DROP_RESET_BY_CLIENT if client else DROP_RESET_BY_BACKEND)
    return STEP_GONE


cdef STEP tunnel_run(conns_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef uint64_t before = x.request.bytes + x.response.bytes
    cdef CARRY up, down

    up = tunnel_carry(m, &x.request, &x.down, &x.up.link, &x.to_up)
    if up != CARRY_WAIT and up != CARRY_MORE and up != CARRY_DONE:
        return tunnel_failed(w, x, up, True)
    down = tunnel_carry(m, &x.response, &x.up.link, &x.down, &x.to_down)
    if down != CARRY_WAIT and down != CARRY_MORE and down != CARRY_DONE:
        return tunnel_failed(w, x, down, False)
    if up == CARRY_DONE and down == CARRY_DONE:
        exchange_drop(w, x, DROP_CLOSED)
        return STEP_GONE
    if x.down.shut == SHUT_LATER and x.down.end.writable:
        transport_shut(&x.down)
    if x.up.link.shut == SHUT_LATER and x.up.link.end.writable:
        transport_shut(&x.up.link)
    if x.request.bytes + x.response.bytes != before:
        tunnel_until(w, x)
    if up == CARRY_MORE or down == CARRY_MORE:
        return STEP_TURN
    return STEP_WAIT
