"""From a whole head to its verdict: a remembered one, or Python's answer.

While an exchange is PARKED its parsed head is given back: a thousand clients may wait
for one answer, and to parse again costs little compared with asking Python.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from fastpath.base.linux.file cimport close
from fastpath.base.mailbox cimport LETTER_ANSWER
from fastpath.base.slab cimport slab_find
from fastpath.base.stats cimport http_stats
from fastpath.http.asking cimport (
    asking_new,
    asking_send,
    asking_settle,
    asking_withdraw,
)
from fastpath.http.conn cimport conn_until
from fastpath.http.heads cimport head_return
from fastpath.http.idle cimport upconn_leave
from fastpath.http.key cimport asked_t, path_is_plain
from fastpath.http.meter cimport meter_enter
from fastpath.http.record cimport record_label
from fastpath.http.reply cimport (
    exchange_distrust,
    exchange_limit,
    exchange_reply,
    exchange_say,
)
from fastpath.http.request cimport request_parsed
from fastpath.http.state cimport (
    CONN_PARKED,
    STEP_FORWARD,
    STEP_NO_MEMORY,
    STEP_PARKED,
    STEP_PASSED,
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
    verdict_equals,
    verdict_hold,
    verdict_release,
    verdict_t,
)
from fastpath.http1.compose cimport upgrade_allowed
from fastpath.table.table cimport http_t
from fastpath.tls.peer cimport peer_holds


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
    a.is_plain = path_is_plain(a.bytes, x.head.path)
    return True


# The vip has left the table: Python would find no policy for the request.
cdef STEP question_orphaned(conns_t* w, exchange_t* x) noexcept nogil:
    x.conn.keep = 0
    return exchange_say(w, x, 503, b"this listener is going away")


# Whether the client's certificate still counts: since the handshake its vip may have
# got other authorities, which do not answer for it. A vip that is plain by now has
# none.
cdef inline bint question_holds(conns_t* w, const conn_t* conn) noexcept nogil:
    cdef http_t* http = http_of(w, conn)

    return conn.down.ssl == NULL or http == NULL or (
        http.tls != NULL and peer_holds(conn.down.ssl, http.tls[w.c.worker])
    )


# Do what x.verdict says.
cdef STEP question_obey(conns_t* w, exchange_t* x) noexcept nogil:
    cdef verdict_t* v = x.verdict

    if v.is_reply:
        if v.close:
            x.conn.keep = 0
        return exchange_reply(w, x)
    if not meter_enter(x, v.quota):
        http_stats(&w.c.stats, x.conn.vip.slot).limited += 1
        return exchange_limit(w, x)
    # Decided here, once: what is not allowed is an ordinary request, and its Upgrade is
    # not passed on. HTTP/1.0 has no 101 (RFC 9110 7.8).
    x.upgrade = x.head.upgrade and x.minor == 1 and (
        upgrade_allowed(x.head, input_bytes(x.conn), &v.edits)
    )
    return STEP_FORWARD


cdef STEP question_decide(conns_t* w, exchange_t* x) noexcept nogil:
    cdef verdict_t* v
    cdef uint64_t label
    cdef asked_t a

    if not question_pose(w, x, &a):
        return question_orphaned(w, x)
    if not question_holds(w, x.conn):
        return exchange_distrust(w, x)
    v = memory_find(&w.memory, &a, w.c.now_ms, &label)
    if v == NULL:
        return STEP_UNKNOWN
    # Held: while the request goes on, the memory may drop it.
    verdict_hold(v)
    x.verdict = v
    record_label(x, label)
    http_stats(&w.c.stats, x.conn.vip.slot).remembered += 1
    return question_obey(w, x)


# ---- Asking Python.

# There will be no answer. A response that Python was asked about goes on its way.
cdef STEP question_give_up(
    conns_t* w, exchange_t* x, const char* text
) noexcept nogil:
    http_stats(&w.c.stats, x.conn.vip.slot).unanswered += 1
    if x.refused != 0:
        return question_pass(w, x)
    return exchange_say(w, x, 503, text)


cdef STEP question_pass(conns_t* w, exchange_t* x) noexcept nogil:
    x.refused = 0
    x.passed = 1
    head_return(w, x.head)
    x.head = NULL
    return STEP_PASSED


cdef STEP question_ask(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef question_t* q = x.question

    # A request whose bytes were given back had its question made before.
    x.question = NULL
    if x.refused == 0:
        # A verdict that it had is of another table.
        verdict_release(x.verdict)
        x.verdict = NULL
        if http == NULL:
            return question_orphaned(w, x)
    elif http == NULL:
        free(q)
        return question_pass(w, x)
    if q == NULL:
        q = asking_new(w, x)
    if q == NULL:
        return question_give_up(w, x, b"out of memory")
    if not asking_send(w, x, q):
        return question_give_up(w, x, b"too many requests wait for a decision")
    http_stats(&w.c.stats, x.conn.vip.slot).asked += 1
    head_return(w, x.head)
    x.head = NULL
    conn_until(w, x.conn, http.park_ms)  # then question_expired
    return STEP_PARKED


cdef STEP question_ask_on(conns_t* w, exchange_t* x) noexcept nogil:
    x.asked_on = 1
    return question_ask(w, x)


cdef STEP question_expired(conns_t* w, exchange_t* x) noexcept nogil:
    asking_withdraw(w, x.conn)
    x.conn.deadline_ms = 0
    return question_give_up(w, x, b"no decision in time")


# ---- The answer.

# Python has seen a status that the upstream gave: it is worth another try only with a
# request that differs. A second one with the same token would double what it does.
cdef STEP question_retry(conns_t* w, exchange_t* x, verdict_t* v) noexcept nogil:
    if v == NULL or verdict_equals(v, x.verdict):
        verdict_release(v)
        return question_pass(w, x)
    upconn_leave(w, x, False)
    x.refused = 0
    x.request_abandoned = 0
    verdict_release(x.verdict)
    x.verdict = v
    return question_obey(w, x)


# What it means to the exchange that waited. The verdict is the exchange's, or released.
cdef STEP question_settle(conns_t* w, exchange_t* x, const answer_t* a) noexcept nogil:
    cdef asked_t asked

    if x.refused != 0 and x.held == 0:
        # It cannot be sent again: Python was asked for the sake of later requests.
        verdict_release(a.verdict)
        return question_pass(w, x)
    if a.stale or not epochs_allow(w.epochs, a.moment, a.tag):
        # Python withdrew verdicts between the question and now: ask again.
        verdict_release(a.verdict)
        return STEP_UNKNOWN
    if not request_parsed(w, x):
        verdict_release(a.verdict)
        return STEP_NO_MEMORY
    if not question_pose(w, x, &asked):
        verdict_release(a.verdict)
        return question_orphaned(w, x) if x.refused == 0 else question_pass(w, x)
    if x.refused == 0 and not question_holds(w, x.conn):
        verdict_release(a.verdict)
        return exchange_distrust(w, x)
    if a.ttl_ms > 0:
        memory_keep(
            &w.memory, &asked, a.mask, a.verdict, a.tag, a.label, a.moment,
            w.c.now_ms + a.ttl_ms, w.c.now_ms,
        )
    record_label(x, a.label)
    if x.refused != 0:
        return question_retry(w, x, a.verdict)
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
        asking_settle(w, conn)
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
