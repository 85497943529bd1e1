"""Bodies between transports. The framing of a chunked body is read, not rewritten: its
bytes are passed on as they came, so that none is held back.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.string cimport memset

from fastpath.base.spill cimport SCRATCH_BYTES, spill_of, spill_put
from fastpath.http.state cimport (
    STEP,
    STEP_CLIENT_FAILED,
    STEP_DONE,
    STEP_FAULT,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_TURN,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
)
from fastpath.http1.chunks cimport CHUNK_DATA, CHUNK_DONE, chunks_walk
from fastpath.http1.framing cimport BODY_CHUNKED, BODY_NONE, BODY_SIZED, BODY_TO_EOF
from fastpath.tls.transport cimport transport_read, transport_write


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

    # Until the socket is full, as `writable` says: with TLS a write may take less than
    # it was given although there is room.
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

    # Nothing overtakes what waits already.
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
            return 0  # full: EPOLLOUT tells when to go on
        p.first = s.next
        spill_put(m, s)
    p.last = NULL
    return 1


cdef void pending_drop(mover_t* m, pending_t* p) noexcept nogil:
    cdef spill_t* s

    # Bytes of one exchange must never reach the connection of another.
    while p.first != NULL:
        s = p.first
        p.first = s.next
        spill_put(m, s)
    p.last = NULL


# ---- Bodies.

cdef void body_begin(body_t* b, const head_t* h, bint is_request) noexcept nogil:
    memset(b, 0, sizeof(body_t))  # also the state of the chunks
    b.kind = h.body
    b.is_request = is_request
    b.left = h.length
    # "Content-Length: 0" ends here; an empty chunked body only behind its last chunk.
    b.done = b.kind == BODY_NONE or (b.kind == BODY_SIZED and b.left == 0)


cdef ssize_t body_take(body_t* b, const char* bytes, size_t size) noexcept nogil:
    cdef ssize_t n

    if b.done:
        return 0  # what comes now belongs to the next message
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
        n = size  # BODY_TO_EOF: all that comes is part of it
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

    # Framing goes through the parser byte by byte, and is not sent; data in stretches,
    # as far as the chunk goes or is at hand.
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
                return failed - 1  # -1 is taken: it says that the framing is wrong
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
    # Checked before it is sent: of framing that is wrong nothing is passed on.
    n = body_take(b, bytes, size)
    if n > 0:
        failed = pending_send(m, p, t, bytes, n)
        if failed < 0:
            return failed - 1
    return n


cdef ssize_t read_some(mover_t* m, transport_t* t) noexcept nogil:
    cdef size_t room = SCRATCH_BYTES if m.turn > SCRATCH_BYTES else m.turn
    cdef size_t got = 0
    cdef ssize_t n

    if t.failed:
        return t.failed
    # Fill the buffer: fewer and larger writes follow. A read that takes all there is
    # clears `readable`, so that a short message costs one call.
    while got < room and t.end.readable:
        n = transport_read(t, m.scratch + got, room - got)
        if n > 0:
            got += n
            continue
        if got == 0:
            return n
        if n != -EAGAIN:
            # Return the bytes now and the end next time. An edge-triggered poller tells
            # of neither again, and a socket tells its error only once: keep both.
            t.end.readable = 1
            t.failed = <int>n
        break
    # Both: `coalesce` tells streams from small messages by the difference.
    m.stats.copied += got
    m.stats.streamed += got
    return got if got > 0 else -EAGAIN


# Which side failed depends on the direction of the body.
cdef inline STEP source_failed(const body_t* b) noexcept nogil:
    return STEP_CLIENT_FAILED if b.is_request else STEP_UPSTREAM_FAILED


cdef inline STEP target_failed(const body_t* b) noexcept nogil:
    return STEP_UPSTREAM_FAILED if b.is_request else STEP_CLIENT_FAILED


# The result for what body_send returned below 0.
cdef STEP send_failed(const body_t* b, ssize_t said) noexcept nogil:
    if said == -1:
        return STEP_FAULT
    # Errnos come less one. Of those only ENOMEM is ours and not the target's.
    return STEP_NO_MEMORY if said == -ENOMEM - 1 else target_failed(b)


# Send what waits. STEP_ON = nothing waits any more, and the body goes on.
cdef STEP body_ready(
    mover_t* m, const body_t* b, transport_t* target, pending_t* p
) noexcept nogil:
    cdef int flushed = pending_flush(m, p, target)

    # Nothing is read while something waits: a slow reader slows down its source, and
    # no more is held than one read brought.
    if flushed < 0:
        return target_failed(b)
    if flushed == 0:
        return STEP_WAIT
    return STEP_DONE if b.done else STEP_ON


cdef STEP body_move(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t** surplus,
) noexcept nogil:
    cdef size_t moved = 0
    cdef ssize_t got, n
    cdef STEP ready

    # In order, until something stops it: send what waits; end the turn after 1 MiB;
    # read; send what belongs to the body; keep the rest for the caller.
    while True:
        ready = body_ready(m, b, target, p)
        if ready != STEP_ON:
            return ready
        if moved >= m.turn:
            return STEP_TURN
        if not source.end.readable:
            return STEP_WAIT
        got = read_some(m, source)
        if got == -EAGAIN:
            return STEP_WAIT
        if got <= 0:
            # The end of the stream ends a body without a length, and no other. A FIN
            # without close_notify may be an attacker's: it ends none (RFC 9112 9.8).
            if got == 0 and b.kind == BODY_TO_EOF and not source.truncated:
                b.done = 1
                return STEP_DONE
            return source_failed(b)
        n = body_send(m, b, p, target, m.scratch, got)
        if n < 0:
            return send_failed(b, n)
        moved += n
        if n < got:  # bytes behind the body: the loop ends with STEP_DONE
            surplus[0] = spill_of(m, m.scratch + n, got - n)
            if surplus[0] == NULL:
                return STEP_NO_MEMORY


cdef STEP body_hold(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t* kept,
) noexcept nogil:
    cdef char* at
    cdef size_t room
    cdef ssize_t n
    cdef STEP ready

    # As body_move, but bytes are read to their place behind what is kept, and stay
    # there. No turn is counted: the buffer is smaller than one. Bytes behind the body
    # stay in the buffer as well: `kept` is the client's input.
    while True:
        ready = body_ready(m, b, target, p)
        if ready != STEP_ON:
            return ready
        at = kept.bytes + kept.first + kept.used
        room = SCRATCH_BYTES - kept.first - kept.used
        if room == 0:
            return STEP_ON  # full, and the body goes on
        if not source.end.readable:
            return STEP_WAIT
        n = transport_read(source, at, room)
        if n == -EAGAIN:
            return STEP_WAIT
        if n <= 0:
            return source_failed(b)
        kept.used += n  # kept whether or not the target takes them
        m.stats.copied += n
        m.stats.streamed += n
        n = body_send(m, b, p, target, at, n)
        if n < 0:
            return send_failed(b, n)
