"""From a whole head to its verdict: a remembered one, or Python's answer.

While an exchange is PARKED its parsed head is given back: a thousand clients may wait
for one answer, and to parse again costs little compared with asking Python.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.linux.file cimport close
from fastpath.base.mailbox cimport LETTER_ANSWER, LETTER_QUESTION, mailbox_push
from fastpath.base.slab cimport slab_find
from fastpath.base.stats cimport http_stats
from fastpath.http.conn cimport conn_until, head_return
from fastpath.http.idle cimport upconn_leave
from fastpath.http.key cimport asked_t
from fastpath.http.reply cimport exchange_reply, exchange_say
from fastpath.http.request cimport request_parsed
from fastpath.http.state cimport (
    CONN_PARKED,
    STEP_FORWARD,
    STEP_NO_MEMORY,
    STEP_PARKED,
    STEP_UNKNOWN,
    answer_t,
    http_of,
    input_bytes,
    question_t,
)
from fastpath.http.verdict cimport (
    epochs_allow,
    memory_find,
    memory_keep,
    verdict_hold,
    verdict_release,
    verdict_t,
)
from fastpath.http1.compose cimport upgrade_allowed
from fastpath.table.table cimport http_t
from fastpath.tls.peer cimport peer_certificate


# The request as keys of verdicts see it. False = its vip is in no table any more.
cdef bint question_pose(conns_t* w, exchange_t* x, asked_t* a) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)

    if http == NULL:
        return False
    a.parts = http.parts
    a.part_count = http.part_count
    a.vip = x.conn.vip.slot
    a.head = x.head
    a.bytes = input_bytes(x.conn)
    a.client = &x.conn.client
    a.ssl = x.conn.down.ssl
    return True


# The vip has left the table: Python would find no policy for the request.
cdef STEP question_orphaned(conns_t* w, exchange_t* x) noexcept nogil:
    x.conn.keep = 0
    return exchange_say(w, x, 503, b"this listener is going away")


# Do what x.verdict says.
cdef STEP question_obey(conns_t* w, exchange_t* x) noexcept nogil:
    cdef verdict_t* v = x.verdict

    if v.is_reply:
        if v.close:
            x.conn.keep = 0
        return exchange_reply(w, x)
    # Decided here, once: what is not allowed is an ordinary request, and its Upgrade is
    # not passed on. HTTP/1.0 has no 101 (RFC 9110 7.8).
    x.upgrade = x.head.upgrade and x.minor == 1 and (
        upgrade_allowed(x.head, input_bytes(x.conn), &v.edits)
    )
    return STEP_FORWARD


cdef STEP question_decide(conns_t* w, exchange_t* x) noexcept nogil:
    cdef verdict_t* v
    cdef asked_t a

    if not question_pose(w, x, &a):
        return question_orphaned(w, x)
    v = memory_find(&w.memory, &a, w.c.now_ms)
    if v == NULL:
        return STEP_UNKNOWN
    # Held: while the request goes on, the memory may drop it.
    verdict_hold(v)
    x.verdict = v
    http_stats(&w.c.stats, x.conn.vip.slot).remembered += 1
    return question_obey(w, x)


# ---- Asking Python.

cdef void question_fill(conns_t* w, exchange_t* x, question_t* q) noexcept nogil:
    # index and generation name the connection, asks the question: a late answer to one
    # that timed out must not be taken for that to the next.
    q.worker = w.c.worker
    q.index = x.conn.slot.index
    q.generation = x.conn.slot.generation
    q.asks = x.conn.asks
    q.vip = x.conn.vip.slot
    q.refused = x.refused
    q.client = x.conn.client
    # The bytes, not the parsed head: Python parses again, at its own time.
    q.size = x.head_size
    memcpy(q.head, input_bytes(x.conn), x.head_size)
    if q.certificate_size > 0:
        peer_certificate(x.conn.down.ssl, <unsigned char*>q.head + x.head_size)


cdef STEP question_ask(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef uint32_t certificate
    cdef question_t* q
    cdef letter_t letter

    # In order: let the old verdict go; write the question; post it; give the head back.
    # An old verdict names an upstream of another table, or the upstream's status is
    # what Python is asked about.
    verdict_release(x.verdict)
    x.verdict = NULL
    if http == NULL:
        return question_orphaned(w, x)
    certificate = peer_certificate(x.conn.down.ssl, NULL)
    q = <question_t*>malloc(sizeof(question_t) + x.head_size + certificate)
    if q == NULL:
        return exchange_say(w, x, 503, b"out of memory")
    x.conn.asks += 1
    q.certificate_size = certificate
    question_fill(w, x, q)
    x.refused = 0
    memset(&letter, 0, sizeof(letter))
    letter.kind = LETTER_QUESTION
    letter.fd = -1
    letter.load = q
    # A full mailbox says that Python is behind by thousands: a reply now is better than
    # one more that waits.
    if mailbox_push(w.questions, &letter) < 0:
        free(q)
        http_stats(&w.c.stats, x.conn.vip.slot).unanswered += 1
        return exchange_say(w, x, 503, b"too many requests wait for a decision")
    http_stats(&w.c.stats, x.conn.vip.slot).asked += 1
    head_return(w, x.head)
    x.head = NULL
    conn_until(w, x.conn, http.park_ms)  # then question_expired
    return STEP_PARKED


cdef STEP question_ask_on(conns_t* w, exchange_t* x) noexcept nogil:
    # The refusal's body is not read: the connection cannot be used again. Only once for
    # a request, or one that is always refused would go round for ever.
    upconn_leave(w, x, False)
    x.asked_on = 1
    x.request_abandoned = 0
    return question_ask(w, x)


cdef STEP question_expired(conns_t* w, exchange_t* x) noexcept nogil:
    http_stats(&w.c.stats, x.conn.vip.slot).unanswered += 1
    x.conn.deadline_ms = 0
    return exchange_say(w, x, 503, b"no decision in time")


# ---- The answer.

# Take the answer for the exchange that waited: its verdict is the exchange's then, or
# released.
cdef STEP question_settle(conns_t* w, exchange_t* x, const answer_t* a) noexcept nogil:
    cdef asked_t asked

    # In order: is it still good; parse the head again, for the key and the way up;
    # remember it, if it may be shared; obey.
    if a.stale or not epochs_allow(w.epochs, a.moment, a.tag):
        # Python withdrew verdicts between the question and now: ask again.
        verdict_release(a.verdict)
        return STEP_UNKNOWN
    if not request_parsed(w, x):
        verdict_release(a.verdict)
        return STEP_NO_MEMORY
    if not question_pose(w, x, &asked):
        verdict_release(a.verdict)
        return question_orphaned(w, x)
    if a.ttl_ms > 0:
        memory_keep(
            &w.memory, &asked, a.mask, a.verdict, a.tag, a.moment,
            w.c.now_ms + a.ttl_ms, w.c.now_ms,
        )
    x.verdict = a.verdict
    return question_obey(w, x)


cdef conn_t* question_answered(
    conns_t* w, const letter_t* letter, STEP* step
) noexcept nogil:
    cdef answer_t* a = <answer_t*>letter.load
    cdef conn_t* conn = <conn_t*>slab_find(&w.conns, a.index, a.generation)

    if conn == NULL or conn.state != CONN_PARKED or conn.asks != a.asks:
        verdict_release(a.verdict)  # the client has gone, or got a 503 by now
        conn = NULL
    else:
        conn.deadline_ms = 0
        step[0] = question_settle(w, conn.exchange, a)
    free(a)
    return conn


cdef void letter_burn(letter_t* letter) noexcept nogil:
    if letter.kind == LETTER_ANSWER:
        verdict_release((<answer_t*>letter.load).verdict)
    if letter.fd != -1:
        close(letter.fd)
    free(letter.load)
    letter.load = NULL
