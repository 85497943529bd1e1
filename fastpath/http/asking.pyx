"""Questions on their way to Python, and how many of them there may be.

Python may take minutes for an answer: somebody logs in. Each question that waits costs
it memory, and work once it can answer; so their number and bytes are bounded over all
workers, and a question whose client has left is withdrawn.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.linux.atomic cimport add_u32, add_u64, sub_u32, sub_u64
from fastpath.base.mailbox cimport (
    LETTER_QUESTION,
    LETTER_WITHDRAWN,
    letter_t,
    mailbox_push,
)
from fastpath.http.state cimport input_bytes
from fastpath.tls.peer cimport peer_certificate


cdef bint parked_take(parked_t* p, uint32_t bytes) noexcept nogil:
    # Take first and look then: two workers that both find room cannot both exceed it.
    if add_u32(&p.count, 1) > p.most:
        sub_u32(&p.count, 1)
        return False
    if add_u64(&p.bytes, bytes) > p.most_bytes:
        parked_give(p, bytes)
        return False
    return True


cdef void parked_give(parked_t* p, uint32_t bytes) noexcept nogil:
    sub_u32(&p.count, 1)
    sub_u64(&p.bytes, bytes)


cdef bint push(conns_t* w, question_t* q, bint withdrawn) noexcept nogil:
    cdef letter_t letter

    memset(&letter, 0, sizeof(letter))
    letter.kind = LETTER_WITHDRAWN if withdrawn else LETTER_QUESTION
    letter.fd = -1
    letter.load = q
    return mailbox_push(w.questions, &letter) == 0


cdef void asking_name(conns_t* w, const conn_t* conn, question_t* q) noexcept nogil:
    q.worker = w.c.worker
    q.index = conn.slot.index
    q.generation = conn.slot.generation
    q.asks = conn.asks
    q.vip = conn.vip.slot


cdef question_t* asking_new(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint32_t certificate = peer_certificate(x.conn.down.ssl, NULL)
    cdef question_t* q = <question_t*>malloc(
        sizeof(question_t) + x.head_size + certificate
    )

    if q == NULL:
        return NULL
    q.client = x.conn.client
    q.size = x.head_size
    q.certificate_size = certificate
    memcpy(q.head, input_bytes(x.conn), x.head_size)
    if certificate > 0:
        peer_certificate(x.conn.down.ssl, <unsigned char*>q.head + x.head_size)
    return q


cdef bint asking_send(conns_t* w, exchange_t* x, question_t* q) noexcept nogil:
    cdef conn_t* conn = x.conn
    cdef uint32_t bytes = sizeof(question_t) + q.size + q.certificate_size

    if not parked_take(w.parked, bytes):
        free(q)
        return False
    conn.asks += 1
    asking_name(w, conn, q)
    q.refused = x.refused
    if not push(w, q, False):
        parked_give(w.parked, bytes)
        free(q)
        return False
    conn.asked_bytes = bytes
    return True


cdef void asking_settle(conns_t* w, conn_t* conn) noexcept nogil:
    if conn.asked_bytes > 0:
        parked_give(w.parked, conn.asked_bytes)
        conn.asked_bytes = 0


cdef void asking_withdraw(conns_t* w, conn_t* conn) noexcept nogil:
    cdef question_t* q

    if conn.asked_bytes == 0:
        return
    asking_settle(w, conn)
    q = <question_t*>malloc(sizeof(question_t))
    if q == NULL:
        return  # Python learns of it from the next question of this slot
    memset(q, 0, sizeof(question_t))
    asking_name(w, conn, q)
    if not push(w, q, True):
        free(q)
