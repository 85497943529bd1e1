"""What dials have in common."""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport (
    LETTER,
    LETTER_CONNECT_FAILED,
    LETTER_EJECTED,
    LETTER_RECOVERED,
    letter_t,
    mailbox_push,
)
from fastpath.base.stats cimport backend_stats, backend_stats_t, histogram_bucket
from fastpath.table.balancer cimport (
    BACKEND_AS_BEFORE,
    BACKEND_EJECTED,
    BACKEND_RECOVERED,
    VERDICT_ON_BACKEND,
    balancer_failed,
    balancer_succeeded,
)


cdef void dial_tell(context_t* c, LETTER kind, uint32_t slot) noexcept nogil:
    cdef letter_t letter
    memset(&letter, 0, sizeof(letter))
    letter.kind = kind
    letter.fd = -1
    letter.slot = slot
    if mailbox_push(c.notices, &letter) < 0:
        c.stats.notices_lost += 1


cdef void dial_note_failure(
    context_t* c, const pool_t* pool, backend_state_t* backend
) noexcept nogil:
    cdef VERDICT_ON_BACKEND verdict = BACKEND_AS_BEFORE

    backend_stats(&c.stats, backend.slot).failures += 1
    if pool != NULL:
        verdict = balancer_failed(pool, backend, c.now_ms)
    if verdict == BACKEND_EJECTED:
        backend_stats(&c.stats, backend.slot).ejections += 1
        dial_tell(c, LETTER_EJECTED, backend.slot)
    else:
        dial_tell(c, LETTER_CONNECT_FAILED, backend.slot)


cdef void dial_note_success(
    context_t* c, backend_state_t* backend, uint64_t began_us
) noexcept nogil:
    cdef backend_stats_t* stats = backend_stats(&c.stats, backend.slot)
    cdef uint64_t took_us = clock_us() - began_us

    stats.connects += 1
    stats.connect_us += took_us
    stats.connects_in[histogram_bucket(took_us)] += 1
    if balancer_succeeded(backend, c.now_ms) == BACKEND_RECOVERED:
        dial_tell(c, LETTER_RECOVERED, backend.slot)
