"""Bodies between transports. The framing of a chunked body is read, not rewritten: its
bytes go on as they came, so that none is held back.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.string cimport memset

from fastpath.base.spill cimport SCRATCH_BYTES, spill_of, spill_put
from fastpath.http.state cimport HTTP_TURN_BYTES
from fastpath.http1.chunks cimport CHUNK_DATA, CHUNK_DONE, chunks_walk
from fastpath.http1.framing cimport BODY_CHUNKED, BODY_NONE, BODY_SIZED, BODY_TO_EOF
from fastpath.tls.transport cimport transport_read, transport_shut, transport_write


# ---- Bytes that wait.

cdef int pending_keep(
    mover_t* m, pending_t* p, const char* bytes, size_t size
) noexcept nogil:
    cdef spill_t* s
    cdef size_t some

    while size > 0:
        some = size if size < SCRATCH_BYTES else SCRATCH_BYTES
        s = spill_of(m, bytes, some)
        if s == NULL:
            return -ENOMEM
        if p.first == NULL:
            p.first = s
        else:
            p.last.next = s
        p.last = s
        bytes += some
        size -= some
    return 0


# Bytes that `t` takes now, or -errno.
cdef ssize_t send_some(transport_t* t, const char* bytes, size_t size) noexcept nogil:
    cdef size_t sent = 0
    cdef ssize_t n

    # With TLS a write takes a record, and there may be room for more.
    while sent < size and t.end.writable:
        n = transport_write(t, bytes + sent, size - sent)
        if n < 0:
            return n
        if n == 0:
            break
        sent += n
    return sent


cdef int pending_send(
    mover_t* m, pending_t* p, transport_t* t, const char* bytes, size_t size
) noexcept nogil:
    cdef ssize_t n = 0

    if p.first == NULL:
        n = send_some(t, bytes, size)
        if n < 0:
            return <int>n
    return pending_keep(m, p, bytes + n, size - n)


cdef int pending_flush(mover_t* m, pending_t* p, transport_t* t) noexcept nogil:
    cdef spill_t* s
    cdef ssize_t n

    while p.first != NULL:
        s = p.first
        n = send_some(t, s.bytes + s.first, s.used)
        if n < 0:
            return <int>n
        s.first += n
        s.used -= n
        if s.used > 0:
            return 0
        p.first = s.next
        spill_put(m, s)
    p.last = NULL
    return 1


cdef void pending_drop(mover_t* m, pending_t* p) noexcept nogil:
    cdef spill_t* s

    while p.first != NULL:
        s = p.first
        p.first = s.next
        spill_put(m, s)
    p.last = NULL


# ---- Bodies.

cdef void body_begin(body_t* b, const head_t* h) noexcept nogil:
    memset(b, 0, sizeof(body_t))
    b.kind = h.body
    b.left = h.length
    b.done = b.kind == BODY_NONE or (b.kind == BODY_SIZED and b.left == 0)


cdef ssize_t body_take(body_t* b, const char* bytes, size_t size) noexcept nogil:
    cdef ssize_t n

    if b.done:
        return 0
    if b.kind == BODY_SIZED:
        n = size if size < b.left else b.left
        b.left -= n
        b.done = b.left == 0
    elif b.kind == BODY_CHUNKED:
        n = chunks_walk(&b.chunks, bytes, size)
        if n < 0:
            return -1
        b.done = b.chunks.state == CHUNK_DONE
    else:
        n = size
    b.bytes += n
    return n


# The data of a chunked body without its framing, one stretch of it at a time.
cdef ssize_t body_send_data(
    mover_t* m, body_t* b, pending_t* p, transport_t* t, const char* bytes,
    size_t size,
) noexcept nogil:
    cdef size_t at = 0
    cdef size_t some
    cdef bint data
    cdef int failed

    while at < size and not b.done:
        data = b.chunks.state == CHUNK_DATA
        some = 1
        if data:
            some = size - at if size - at < b.chunks.left else b.chunks.left
        if body_take(b, bytes + at, some) < 0:
            return -1
        if data:
            failed = pending_send(m, p, t, bytes + at, some)
            if failed < 0:
                return failed - 1
        at += some
    return at


cdef ssize_t body_send(
    mover_t* m, body_t* b, pending_t* p, transport_t* t, const char* bytes,
    size_t size,
) noexcept nogil:
    cdef ssize_t n
    cdef int failed

    if b.unchunk:
        return body_send_data(m, b, p, t, bytes, size)
    n = body_take(b, bytes, size)
    if n > 0:
        failed = pending_send(m, p, t, bytes, n)
        if failed < 0:
            return failed - 1
    return n


# Fill the scratch buffer from `t`. Return its bytes, 0 = ended, or -errno. What was
# read before an error or the end is returned first; both are met again next time.
cdef ssize_t read_some(mover_t* m, transport_t* t) noexcept nogil:
    cdef size_t got = 0
    cdef ssize_t n

    if t.failed:
        return t.failed
    while got < SCRATCH_BYTES and t.end.readable:
        n = transport_read(t, m.scratch + got, SCRATCH_BYTES - got)
        if n > 0:
            got += n
            continue
        if got == 0:
            return n
        if n != -EAGAIN:
            # No event will come of it again, and of a plain socket's error no errno.
            t.end.readable = 1
            t.failed = <int>n
        break
    m.stats.copied += got
    m.stats.streamed += got
    return got if got > 0 else -EAGAIN


cdef CARRY carry_failed(mover_t* m, ssize_t n) noexcept nogil:
    if n == -1:
        return CARRY_FAULT
    m.error = <int>(-n - 1)
    return CARRY_NO_MEMORY if m.error == ENOMEM else CARRY_TARGET


# Whether there is more to carry (CARRY_MORE), what waits having been sent.
cdef CARRY body_ready(
    mover_t* m, const body_t* b, transport_t* target, pending_t* p
) noexcept nogil:
    cdef int flushed = pending_flush(m, p, target)

    if flushed < 0:
        m.error = -flushed
        return CARRY_TARGET
    if flushed == 0:
        return CARRY_WAIT
    return CARRY_DONE if b.done else CARRY_MORE


cdef CARRY body_carry(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t** surplus,
) noexcept nogil:
    cdef size_t moved = 0
    cdef ssize_t got, n
    cdef CARRY ready

    while True:
        ready = body_ready(m, b, target, p)
        if ready != CARRY_MORE:
            return ready
        if moved >= HTTP_TURN_BYTES:
            return CARRY_MORE
        if not source.end.readable:
            return CARRY_WAIT
        got = read_some(m, source)
        if got == -EAGAIN:
            return CARRY_WAIT
        if got <= 0:
            if got == 0 and b.kind == BODY_TO_EOF and not source.truncated:
                b.done = 1
                return CARRY_DONE
            m.error = <int>-got
            return CARRY_SOURCE
        n = body_send(m, b, p, target, m.scratch, got)
        if n < 0:
            return carry_failed(m, n)
        moved += n
        if n < got:
            surplus[0] = spill_of(m, m.scratch + n, got - n)
            if surplus[0] == NULL:
                return CARRY_NO_MEMORY


cdef CARRY body_hold(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t* kept,
) noexcept nogil:
    cdef char* at
    cdef size_t room
    cdef ssize_t n
    cdef CARRY ready

    while True:
        ready = body_ready(m, b, target, p)
        if ready != CARRY_MORE:
            return ready
        at = kept.bytes + kept.first + kept.used
        room = SCRATCH_BYTES - kept.first - kept.used
        if room == 0:
            return CARRY_MORE
        if not source.end.readable:
            return CARRY_WAIT
        n = transport_read(source, at, room)
        if n == -EAGAIN:
            return CARRY_WAIT
        if n <= 0:
            m.error = <int>-n
            return CARRY_SOURCE
        kept.used += n
        m.stats.copied += n
        m.stats.streamed += n
        n = body_send(m, b, p, target, at, n)
        if n < 0:
            return carry_failed(m, n)


cdef CARRY tunnel_carry(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p
) noexcept nogil:
    cdef size_t moved = 0
    cdef ssize_t got
    cdef int failed

    while not b.done:
        failed = pending_flush(m, p, target)
        if failed == 0:
            return CARRY_WAIT
        if failed > 0:
            if moved >= HTTP_TURN_BYTES:
                return CARRY_MORE
            if not source.end.readable:
                return CARRY_WAIT
            got = read_some(m, source)
            if got == -EAGAIN:
                return CARRY_WAIT
            if got < 0:
                m.error = <int>-got
                return CARRY_SOURCE
            if got == 0:
                transport_shut(target)
                b.done = 1
                break
            b.bytes += got
            moved += got
            failed = pending_send(m, p, target, m.scratch, got)
        if failed < 0:
            m.error = -failed
            return CARRY_TARGET
    return CARRY_DONE
