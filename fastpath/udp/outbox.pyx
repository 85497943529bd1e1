"""Sending: pieces, sendmmsg(2), and what becomes of those that cannot be sent.

A train (UDP_SEGMENT, udp(7)) passes the kernel's stack as one packet: that is where the
time of small system calls goes. Datagrams keep their boundaries: a train has datagrams
of one size, and at most the last is shorter. Kernels and devices may refuse trains;
then the flow does without for good, and its datagrams go one by one.
"""

from libc.errno cimport (
    EACCES,
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EINTR,
    EINVAL,
    EIO,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENOMEM,
    ENOPROTOOPT,
    errno,
)
from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from fastpath.base.linux.datagram cimport (
    CMSG_DATA,
    CMSG_LEN,
    CMSG_SPACE,
    SOL_UDP,
    UDP_SEGMENT,
    cmsghdr,
    msghdr,
    sendmmsg,
    sendmsg,
)
from fastpath.base.linux.socket cimport MSG_DONTWAIT, MSG_NOSIGNAL
from fastpath.base.stats cimport (
    LOSS_CONGESTED,
    LOSS_TOO_LARGE,
    LOSS_UNSENDABLE,
)


cdef bint peer_failed(int error) noexcept nogil:
    return (
        error == ECONNREFUSED or error == EHOSTUNREACH or error == ENETUNREACH
        or error == ECONNRESET or error == ENOPROTOOPT or error == EACCES
    )


# ---- Adding.

# A new piece for `target`, without anything in it.
cdef piece_t* outbox_open(outbox_t* o, const target_t* target) noexcept nogil:
    cdef piece_t* p = &o.pieces[o.count]
    cdef msghdr* h = &o.messages[o.count].msg_hdr

    memset(h, 0, sizeof(msghdr))
    h.msg_name = <void*>target.name
    h.msg_namelen = target.name_size
    h.msg_iov = &o.vectors[o.vectors_used]
    if target.control != NULL:
        memcpy(o.control[o.count], target.control, target.control_size)
        h.msg_control = o.control[o.count]
        h.msg_controllen = target.control_size
    p.fd = target.fd
    p.size = 0
    p.count = 0
    p.way = target.way
    p.no_trains = target.no_trains
    p.stats = target.stats
    o.count += 1
    return p


# Whether `bytes` of datagrams of `segment` may stand behind what is in the last piece.
cdef inline bint outbox_joins(
    const outbox_t* o, const target_t* target, uint32_t segment, uint32_t bytes
) noexcept nogil:
    cdef const piece_t* p

    if o.count == 0:
        return False
    p = &o.pieces[o.count - 1]
    if not p.open or p.no_trains != target.no_trains:
        return False
    if target.no_trains[0] or bytes == 0 or p.count >= TRAIN_MOST:
        return False
    # One that is shorter may end a train.
    return (
        segment == p.segment or (bytes == segment and segment < p.segment)
    ) and p.size + bytes <= TRAIN_BYTES


# Let a piece say that it is a train.
cdef void piece_mark(outbox_t* o, uint32_t index) noexcept nogil:
    cdef msghdr* h = &o.messages[index].msg_hdr
    cdef cmsghdr* c = <cmsghdr*>(o.control[index] + h.msg_controllen)
    cdef uint16_t segment = <uint16_t>o.pieces[index].segment

    memset(c, 0, CMSG_SPACE(sizeof(segment)))
    c.cmsg_level = SOL_UDP
    c.cmsg_type = UDP_SEGMENT
    c.cmsg_len = CMSG_LEN(sizeof(segment))
    memcpy(CMSG_DATA(c), &segment, sizeof(segment))
    h.msg_control = o.control[index]
    h.msg_controllen += CMSG_SPACE(sizeof(segment))


# Put the first `bytes` of `d` into the last piece, which has room.
cdef void piece_take(
    outbox_t* o, datagram_t* d, uint32_t segment, uint32_t bytes
) noexcept nogil:
    cdef uint32_t index = o.count - 1
    cdef piece_t* p = &o.pieces[index]
    cdef iovec* v = &o.vectors[o.vectors_used]
    cdef uint32_t count = (bytes + segment - 1) // segment if segment > 0 else 1

    v.iov_base = d.data
    v.iov_len = bytes
    o.vectors_used += 1
    o.messages[index].msg_hdr.msg_iovlen += 1
    if p.count == 0:
        p.segment = segment
    if p.count <= 1 and p.count + count > 1:
        piece_mark(o, index)
    p.size += bytes
    p.count += count
    p.open = bytes > 0 and bytes % p.segment == 0
    d.data += bytes
    d.size -= bytes


cdef bint outbox_add(
    outbox_t* o, datagram_t* d, const target_t* target
) noexcept nogil:
    cdef uint32_t segment, most, bytes, room

    while True:
        segment = d.segment if 0 < d.segment < d.size else d.size
        # How many of them may go at once.
        most = 1
        if segment < d.size and not target.no_trains[0]:
            most = TRAIN_BYTES // segment if segment > TRAIN_BYTES // TRAIN_MOST else (
                TRAIN_MOST
            )
        bytes = segment * most if segment * most < d.size else d.size
        if o.vectors_used == OUTBOX_VECTORS:
            return False
        if outbox_joins(o, target, segment, bytes):
            room = TRAIN_MOST - o.pieces[o.count - 1].count
            if bytes > room * segment:
                bytes = room * segment
        elif o.count == OUTBOX_PIECES:
            return False
        else:
            outbox_open(o, target)
        piece_take(o, d, segment, bytes)
        if d.size == 0:
            return True


# ---- Sending.

cdef int loss_of(int error) noexcept nogil:
    if error == EAGAIN or error == ENOBUFS or error == ENOMEM:
        return LOSS_CONGESTED
    return LOSS_TOO_LARGE if error == EMSGSIZE else LOSS_UNSENDABLE


cdef void piece_lose(const piece_t* p, uint32_t count, int error) noexcept nogil:
    p.stats.dropped[loss_of(error)] += count


cdef int send_one(const msghdr* h, int fd) noexcept nogil:
    while True:
        if sendmsg(fd, h, MSG_DONTWAIT | MSG_NOSIGNAL) != -1:
            return 0
        if errno != EINTR:
            return errno


# Send the datagrams of a train that was refused one by one.
cdef void piece_scatter(outbox_t* o, uint32_t index) noexcept nogil:
    cdef const piece_t* p = &o.pieces[index]
    cdef msghdr h = o.messages[index].msg_hdr
    cdef const iovec* all_ = h.msg_iov
    cdef size_t vectors = h.msg_iovlen
    cdef iovec one
    cdef size_t i, at
    cdef int error

    p.stats.trains_refused += 1
    p.no_trains[0] = 1
    h.msg_controllen -= CMSG_SPACE(sizeof(uint16_t))
    if h.msg_controllen == 0:
        h.msg_control = NULL
    h.msg_iov = &one
    h.msg_iovlen = 1
    for i in range(vectors):
        at = 0
        while at < all_[i].iov_len:
            one.iov_base = <char*>all_[i].iov_base + at
            one.iov_len = all_[i].iov_len - at
            if one.iov_len > p.segment:
                one.iov_len = p.segment
            at += one.iov_len
            error = send_one(&h, p.fd)
            if error != 0:
                piece_lose(p, 1, error)


cdef inline bint trains_refused(int error) noexcept nogil:
    return error == EIO or error == EINVAL or error == EMSGSIZE


cdef int outbox_send(outbox_t* o, bint stops) noexcept nogil:
    cdef const piece_t* p
    cdef uint32_t end, i
    cdef int n, error

    while o.next < o.count:
        p = &o.pieces[o.next]
        end = o.next + 1
        while end < o.count and o.pieces[end].fd == p.fd:
            end += 1
        n = sendmmsg(
            p.fd, &o.messages[o.next], end - o.next, MSG_DONTWAIT | MSG_NOSIGNAL
        )
        error = errno if n == -1 else 0
        if n > 0:
            for i in range(o.next, o.next + n):
                if o.pieces[i].count > 1:
                    o.pieces[i].stats.trains_sent[o.pieces[i].way] += 1
            o.next += n
        elif error == EINTR:
            continue
        elif p.count > 1 and trains_refused(error):
            piece_scatter(o, o.next)
            o.next += 1
        elif stops and peer_failed(error):
            return error
        else:
            piece_lose(p, p.count, error)
            o.next += 1
    return 0


cdef void outbox_turn(outbox_t* o, int fd, uint8_t* no_trains) noexcept nogil:
    cdef uint32_t i

    for i in range(o.next, o.count):
        o.pieces[i].fd = fd
        o.pieces[i].no_trains = no_trains


cdef void outbox_lose(outbox_t* o, int loss) noexcept nogil:
    cdef uint32_t i

    for i in range(o.next, o.count):
        o.pieces[i].stats.dropped[loss] += o.pieces[i].count
    outbox_clear(o)
