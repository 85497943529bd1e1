"""From a whole request head to a request that was sent: what Python decided, or is
asked about, is carried out."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.linux.file cimport close
from fastpath.base.mailbox cimport (
    LETTER_ANSWER,
    LETTER_QUESTION,
    letter_t,
    mailbox_push,
)
from fastpath.base.slab cimport slab_find
from fastpath.base.spill cimport SCRATCH_BYTES
from fastpath.base.stats cimport DROP_NO_MEMORY, web_stats
from fastpath.http.carry cimport pending_send
from fastpath.http.client cimport (
    STEP,
    STEP_GONE,
    STEP_ON,
    STEP_WAIT,
    exchange_drop,
    exchange_fail,
    exchange_reply,
    exchange_say,
    exchange_until,
    http_of,
    input_bytes,
    input_drop,
)
from fastpath.http.keepset cimport upstream_leave
from fastpath.http.key cimport asked_t
from fastpath.http.upstream cimport (
    REACH,
    REACH_GONE,
    REACH_NO_BACKEND,
    REACH_READY,
    REACH_TIMEOUT,
    REACH_WAIT,
    upstream_reach,
    upstream_repeats,
)
from fastpath.http.verdict cimport (
    epochs_allow,
    memory_find,
    memory_keep,
    verdict_hold,
    verdict_release,
    verdict_t,
)
from fastpath.http.web cimport (
    EX_FLOWING,
    EX_PARKED,
    EX_REACHING,
    OUT_BYTES,
    answer_t,
    exchange_t,
    question_t,
    web_t,
)
from fastpath.http1.compose cimport compose_request, out_put, out_t, upgrade_allowed
from fastpath.http1.framing cimport BODY_SIZED
from fastpath.http1.head cimport head_parse_request
from fastpath.table.table cimport http_t
from fastpath.tls.peer cimport peer_certificate


# ---- Verdicts.

cdef bint exchange_asks(web_t* w, exchange_t* x, asked_t* a) noexcept nogil:
    cdef http_t* http = http_of(w, x)

    if http == NULL:
        return False
    a.parts = http.parts
    a.part_count = http.part_count
    a.vip = x.vip.slot
    a.head = &w.head
    a.bytes = input_bytes(x)
    a.client = &x.client
    a.ssl = x.down.ssl
    return True


# Its vip is in no table any more: nobody can say what is to be done.
cdef STEP exchange_orphan(web_t* w, exchange_t* x) noexcept nogil:
    x.keep = 0
    return exchange_say(w, x, 503, b"this listener is going away")


# Parse the head at the front of the input again: w.head may be another's by now.
cdef inline void head_again(web_t* w, exchange_t* x) noexcept nogil:
    head_parse_request(&w.head, input_bytes(x), x.input.used, 0)
    w.head_of = x


# w.head is this exchange's. `refused` is what the upstream said to the last verdict.
cdef STEP exchange_decide(web_t* w, exchange_t* x, uint16_t refused) noexcept nogil:
    cdef verdict_t* v = NULL
    cdef asked_t a

    if not exchange_asks(w, x, &a):
        return exchange_orphan(w, x)
    if not refused:
        v = memory_find(&w.memory, &a, w.c.now_ms)
    if v == NULL:
        return exchange_ask(w, x, refused)
    verdict_hold(v)
    x.verdict = v
    web_stats(&w.c.stats, x.vip.slot).remembered += 1
    return exchange_obey(w, x)


# Ask Python; wait for the answer.
cdef STEP exchange_ask(web_t* w, exchange_t* x, uint16_t refused) noexcept nogil:
    cdef http_t* http = http_of(w, x)
    cdef uint32_t size = w.head.size
    cdef int certificate = peer_certificate(x.down.ssl, NULL)
    cdef question_t* q
    cdef letter_t letter

    if http == NULL:
        return exchange_orphan(w, x)
    q = <question_t*>malloc(sizeof(question_t) + size + certificate)
    if q == NULL:
        return exchange_say(w, x, 503, b"out of memory")
    x.asks += 1
    q.worker = w.c.worker
    q.index = x.slot.index
    q.generation = x.slot.generation
    q.asks = x.asks
    q.vip = x.vip.slot
    q.refused = refused
    q.client = x.client
    q.size = size
    q.certificate_size = certificate
    memcpy(q.head, input_bytes(x), size)
    if certificate > 0:
        peer_certificate(x.down.ssl, <unsigned char*>q.head + size)
    memset(&letter, 0, sizeof(letter))
    letter.kind = LETTER_QUESTION
    letter.fd = -1
    letter.load = q
    if mailbox_push(w.questions, &letter) < 0:
        free(q)
        web_stats(&w.c.stats, x.vip.slot).unanswered += 1
        return exchange_say(w, x, 503, b"too many requests wait for a decision")
    web_stats(&w.c.stats, x.vip.slot).asked += 1
    x.state = EX_PARKED
    exchange_until(w, x, http.park_ms)
    return STEP_WAIT


cdef exchange_t* decide_answered(
    web_t* w, const letter_t* letter
) noexcept nogil:
    cdef answer_t* a = <answer_t*>letter.load
    cdef exchange_t* x = <exchange_t*>slab_find(&w.exchanges, a.index, a.generation)
    cdef asked_t asked
    cdef STEP step

    if x == NULL or x.state != EX_PARKED or x.asks != a.asks:
        verdict_release(a.verdict)  # it did not wait so long
        free(a)
        return NULL
    head_again(w, x)
    x.deadline_ms = 0
    if a.stale or not epochs_allow(w.epochs, a.moment, a.tag):
        # Decided under what was withdrawn meanwhile.
        verdict_release(a.verdict)
        step = exchange_ask(w, x, 0)
    elif not exchange_asks(w, x, &asked):
        verdict_release(a.verdict)
        step = exchange_orphan(w, x)
    else:
        if a.ttl_ms > 0:
            memory_keep(
                &w.memory, &asked, a.mask, a.verdict, a.tag, a.moment,
                w.c.now_ms + a.ttl_ms, w.c.now_ms,
            )
        x.verdict = a.verdict
        step = exchange_obey(w, x)
    free(a)
    return x if step == STEP_ON else NULL


# Carry out the verdict. w.head is this exchange's.
cdef STEP exchange_obey(web_t* w, exchange_t* x) noexcept nogil:
    cdef verdict_t* v = x.verdict

    if v.is_reply:
        if v.close:
            x.keep = 0
        return exchange_reply(w, x)
    x.upgrade = w.head.upgrade and x.minor == 1 and (
        upgrade_allowed(&w.head, input_bytes(x), &v.edits)
    )
    return exchange_reached(w, x, upstream_reach(w, x, False))


# ---- Sending the request.

cdef STEP exchange_reached(web_t* w, exchange_t* x, REACH reach) noexcept nogil:
    if reach == REACH_READY:
        return exchange_send(w, x)
    if reach == REACH_WAIT:
        x.state = EX_REACHING
        return STEP_WAIT
    if x.up != NULL:
        upstream_leave(w, x, False)
    if reach == REACH_GONE:
        # The verdict names an upstream that has changed: it must be another.
        verdict_release(x.verdict)
        x.verdict = NULL
        head_again(w, x)
        return exchange_ask(w, x, 0)
    if reach == REACH_NO_BACKEND:
        return exchange_fail(w, x, 503, b"no backend is usable")
    return exchange_fail(w, x, 504 if reach == REACH_TIMEOUT else 502, w.why)


# The head, and what of the body is at hand, in one write.
cdef STEP exchange_send(web_t* w, exchange_t* x) noexcept nogil:
    cdef char* bytes = input_bytes(x)
    cdef out_t o
    cdef int failed

    if w.head_of != x:
        head_again(w, x)
    o.bytes = w.out
    o.room = OUT_BYTES
    o.size = 0
    o.full = False
    compose_request(&o, &w.head, bytes, &x.verdict.edits, &x.client, x.upgrade)
    out_put(&o, bytes + w.head.size, x.held - w.head.size)
    if o.full:
        upstream_leave(w, x, False)
        return exchange_say(w, x, 431, b"request head is too large")
    x.state = EX_FLOWING
    failed = pending_send(&w.c.mover, &x.to_up, &x.up.link, o.bytes, o.size)
    if failed == -ENOMEM:
        exchange_drop(w, x, DROP_NO_MEMORY)
        return STEP_GONE
    if failed < 0:
        # Told by what reading says: the upstream may have answered before it left.
        x.deaf = 1
        x.up.link.readable = 1
    if x.request.kind == BODY_SIZED and x.request.left > SCRATCH_BYTES - x.held:
        # Too large to be sent a second time: streamed from here.
        input_drop(w, x)
        x.held = 0
    return STEP_ON


# A kept connection had ended: once more, on a new one.
cdef STEP exchange_replay(web_t* w, exchange_t* x) noexcept nogil:
    upstream_leave(w, x, False)
    if not upstream_repeats(x):
        return exchange_fail(w, x, 502, b"EOF")
    x.replayed = 1
    x.deaf = 0
    web_stats(&w.c.stats, x.vip.slot).replayed += 1
    head_again(w, x)
    return exchange_reached(w, x, upstream_reach(w, x, True))


cdef STEP exchange_ask_on(web_t* w, exchange_t* x) noexcept nogil:
    cdef uint16_t refused = w.head.status

    upstream_leave(w, x, False)
    verdict_release(x.verdict)
    x.verdict = NULL
    x.asked_on = 1
    x.deaf = 0
    head_again(w, x)
    return exchange_ask(w, x, refused)


cdef void letter_burn(letter_t* letter) noexcept nogil:
    if letter.kind == LETTER_ANSWER:
        verdict_release((<answer_t*>letter.load).verdict)
    if letter.fd != -1:
        close(letter.fd)
    free(letter.load)
    letter.load = NULL
