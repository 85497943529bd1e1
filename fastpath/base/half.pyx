"""Moving bytes one way. Knows two descriptors, and not which peers they lead to.

Neither EOF nor EAGAIN of splice(2) is trusted by itself: for sockets that another
program put into a BPF sockmap it returns them with data pending (dae#518,
grafana/beyla#2941; Linux 6.18). A recv(2) checks, which costs a call only where splice
found nothing although the poller had reported data. FIONREAD is wrong for the same
sockets and is not used.
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, errno
from libc.string cimport memcpy

from fastpath.base.end cimport END_DRY, END_NODELAY, END_SPLICED, END_WRITABLE
from fastpath.base.linux.debug cimport check
from fastpath.base.linux.socket cimport (
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    SHUT_WR,
    TCP_NODELAY,
    recv,
    send,
    setsockopt,
    shutdown,
)
from fastpath.base.pipe cimport pipe_fill, pipe_flush, pipe_get, pipe_put
from fastpath.base.spill cimport SCRATCH_BYTES, spill_get, spill_put

cdef enum:
    STEP_ON = -1  # of a step: nothing to report, go on with the half


cdef void half_release(mover_t* m, half_t* h) noexcept nogil:
    pipe_put(&m.pipes, h.pipe)
    h.pipe = NULL
    if h.spill != NULL:
        spill_put(m, h.spill)
        h.spill = NULL


# Keep bytes of the scratch buffer that the destination did not take.
cdef bint half_keep(mover_t* m, half_t* h, size_t first, size_t size) noexcept nogil:
    check(h.spill == NULL)
    h.spill = spill_get(m)
    if h.spill == NULL:
        return False
    memcpy(h.spill.bytes, m.scratch + first, size)
    h.spill.used = <uint32_t>size
    return True


# Nagle holds back a second write only: set TCP_NODELAY then, not for the first.
cdef inline void half_hurry(const half_t* h, end_t* dst) noexcept nogil:
    cdef int on = 1

    if h.bytes > 0 and not dst.flags & END_NODELAY:
        dst.flags |= END_NODELAY
        setsockopt(dst.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))


# Bytes that `dst` took, or 0 if it is full, or -errno.
cdef ssize_t half_send(
    const half_t* h, end_t* dst, const char* bytes, size_t size
) noexcept nogil:
    cdef ssize_t n

    half_hurry(h, dst)
    while True:
        n = send(dst.fd, bytes, size, MSG_NOSIGNAL)
        if n != -1:
            if <size_t>n < size:
                dst.writable = 0
            return n
        if errno == EAGAIN:
            dst.writable = 0
            return 0
        if errno != EINTR:
            return -errno


cdef int flush_spill(mover_t* m, half_t* h, end_t* dst) noexcept nogil:
    cdef spill_t* s = h.spill
    cdef ssize_t n

    if not dst.writable:
        return MOVE_WAIT
    n = half_send(h, dst, s.bytes + s.first, s.used)
    if n < 0:
        m.error = <int>-n
        return MOVE_TARGET_FAILED
    h.bytes += n
    m.stats.copied += n
    s.first += <uint32_t>n
    s.used -= <uint32_t>n
    if s.used > 0:
        return MOVE_WAIT
    h.spill = NULL
    spill_put(m, s)
    return STEP_ON


cdef int flush_pipe(mover_t* m, half_t* h, end_t* dst) noexcept nogil:
    cdef ssize_t n

    if not dst.writable:
        return MOVE_WAIT
    half_hurry(h, dst)
    n = pipe_flush(h.pipe, dst.fd)
    if n == -EAGAIN:
        dst.writable = 0
        return MOVE_WAIT
    if n < 0:
        m.error = <int>-n
        return MOVE_TARGET_FAILED
    h.bytes += n
    m.stats.spliced += n
    return STEP_ON  # a short flush goes on until EAGAIN: only that arms EPOLLOUT


# Count reads that speak for splicing, or against it.
cdef inline void half_learn(half_t* h, bint speaks, int enough, MODE other
                            ) noexcept nogil:
    if not speaks:
        h.streak = 0
        return
    h.streak += 1
    if h.streak >= enough:
        h.streak = 0
        h.mode = other


cdef ssize_t half_read(mover_t* m, half_t* h, end_t* src, size_t at) noexcept nogil:
    cdef size_t room = SCRATCH_BYTES - at
    cdef ssize_t n = recv(src.fd, m.scratch + at, room, 0)

    if n == -1:
        if errno == EAGAIN:
            src.readable = END_DRY
        return -errno
    if n == 0:
        h.ended = 1
        return 0
    if <size_t>n < room and not src.rdhup_seen:
        src.readable = END_DRY
    if h.mode == MODE_COPY and m.splice:
        half_learn(h, n >= STREAM_BYTES, STREAM_READS, MODE_SPLICE)
    return n


cdef MOVE half_give(
    mover_t* m, half_t* h, end_t* dst, size_t at, size_t size
) noexcept nogil:
    cdef ssize_t sent = half_send(h, dst, m.scratch + at, size)

    if sent < 0:
        m.error = <int>-sent
        if not half_keep(m, h, at, size):
            return MOVE_NO_MEMORY
        return MOVE_TARGET_FAILED
    h.bytes += sent
    m.stats.copied += sent
    if <size_t>sent < size and not half_keep(m, h, at + sent, size - sent):
        return MOVE_NO_MEMORY
    return MOVE_WAIT


cdef int copy_some(mover_t* m, half_t* h, end_t* src, end_t* dst) noexcept nogil:
    cdef ssize_t n = half_read(m, h, src, 0)
    cdef MOVE given

    if n == -EAGAIN:
        return MOVE_WAIT
    if n < 0 and n != -EINTR:
        m.error = <int>-n
        return MOVE_SOURCE_FAILED
    if n <= 0:
        return STEP_ON
    given = half_give(m, h, dst, 0, n)
    return STEP_ON if given == MOVE_WAIT else given


# splice(2) returned 0 or -EAGAIN: check by recv(2) whether that is true.
cdef int confirm_splice(
    mover_t* m, half_t* h, end_t* src, ssize_t said
) noexcept nogil:
    cdef char byte
    cdef ssize_t n = recv(src.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)

    if n == 0:
        h.ended = 1
        return STEP_ON
    if n == -1 and errno == EAGAIN and said == -EAGAIN:
        src.readable = END_DRY
        return MOVE_WAIT
    if n == -1 and errno != EAGAIN and errno != EINTR:
        m.error = errno
        return MOVE_SOURCE_FAILED
    m.stats.no_splice += 1
    h.mode = MODE_COPY_ONLY
    return STEP_ON


cdef int splice_some(mover_t* m, half_t* h, end_t* src) noexcept nogil:
    cdef ssize_t n

    if h.pipe == NULL:
        h.pipe = pipe_get(&m.pipes)
        if h.pipe == NULL:  # none to be had now: copying always works
            h.mode = MODE_COPY
            return STEP_ON
    check(h.pipe.used == 0)
    # No more than its turn: what is in the pipe cannot be held back any more.
    n = pipe_fill(h.pipe, src.fd, h.pipe.size if h.pipe.size < m.turn else m.turn)
    if n > 0:
        src.readable = END_SPLICED
        half_learn(h, n < TRICKLE_BYTES, TRICKLE_READS, MODE_COPY)
        return STEP_ON
    # splice(2) never gets past an urgent mark; recv(2) does: let it look.
    if n == -EAGAIN and src.readable == END_SPLICED and not src.rdhup_seen:
        src.readable = END_DRY
        return MOVE_WAIT
    if n == 0 or n == -EAGAIN:
        return confirm_splice(m, h, src, n)
    if n == -EINVAL:
        m.stats.no_splice += 1
        h.mode = MODE_COPY_ONLY
        return STEP_ON
    m.error = <int>-n
    return MOVE_SOURCE_FAILED


cdef int half_finish(half_t* h, end_t* dst) noexcept nogil:
    if not h.last:
        # ENOTCONN: that side is closed both ways, and the other half finds that out.
        shutdown(dst.fd, SHUT_WR)
    h.done = 1
    return MOVE_DONE


cdef int half_step(mover_t* m, half_t* h, end_t* src, end_t* dst) noexcept nogil:
    if h.spill != NULL:
        return flush_spill(m, h, dst)
    if h.pipe != NULL and h.pipe.used > 0:
        return flush_pipe(m, h, dst)
    if h.ended:
        return half_finish(h, dst) if dst.writable == END_WRITABLE else MOVE_WAIT
    if not src.readable or not dst.writable:
        return MOVE_WAIT
    if h.mode == MODE_SPLICE:
        return splice_some(m, h, src)
    return copy_some(m, h, src, dst)


cdef MOVE half_move(mover_t* m, half_t* h, end_t* src, end_t* dst) noexcept nogil:
    cdef uint64_t limit = h.bytes + m.turn
    cdef int step = MOVE_DONE if h.done else STEP_ON

    while step == STEP_ON:
        step = half_step(m, h, src, dst)
        if step == STEP_ON and h.bytes >= limit:
            step = MOVE_MORE
    # An idle half owns nothing.
    if h.pipe != NULL and h.pipe.used == 0:
        pipe_put(&m.pipes, h.pipe)
        h.pipe = NULL
    return <MOVE>step
