"""The socket as OpenSSL sees it: a BIO with nothing in it but the descriptor.

OpenSSL's own BIO raises SIGPIPE when the peer has gone, and costs more.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport intptr_t, uint32_t, uint64_t

from fastpath.base.linux.socket cimport (
    IPPROTO_TCP, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, TCP_NODELAY, recv, send, setsockopt,
)
from fastpath.tls.openssl cimport (
    BIO_CTRL_EOF, BIO_CTRL_FLUSH, BIO_FLAGS_IN_EOF, BIO_METHOD, BIO_TYPE_SOURCE_SINK,
    BIO_clear_flags, BIO_clear_retry_flags, BIO_get_data, BIO_get_new_index,
    BIO_meth_new, BIO_meth_set_ctrl, BIO_meth_set_read_ex, BIO_meth_set_write_ex,
    BIO_new, BIO_set_data, BIO_set_flags, BIO_set_retry_read, BIO_set_retry_write,
    BIO_test_flags,
)


cdef enum:
    WIRE_DRY = 0x10000  # flags of ours, beyond those of OpenSSL
    WIRE_MORE = 0x20000
    WIRE_EXPECT_PLAINTEXT = 0x40000  # until the first byte has come
    WIRE_MET_PLAINTEXT = 0x80000
    WIRE_EXPECT_HELLO = 0x100000  # what is counted are its bytes; afterwards, records
    WIRE_FLOODED = 0x200000


# Its data are the descriptor in the lower half, and what is counted in the upper one.
cdef inline int wire_fd(BIO* b) noexcept nogil:
    return <int><intptr_t>BIO_get_data(b)


cdef inline uint32_t wire_counted(BIO* b) noexcept nogil:
    cdef intptr_t data = <intptr_t>BIO_get_data(b)

    return <uint32_t>(<uint64_t>data >> 32)


cdef inline void wire_set_counted(BIO* b, uint32_t count) noexcept nogil:
    cdef uint64_t data = <uint64_t>count << 32 | <uint32_t>wire_fd(b)

    BIO_set_data(b, <void*><intptr_t>data)


# Whether the bytes read are still within a ClientHello.
cdef inline bint wire_hello_fits(BIO* b, size_t bytes) noexcept nogil:
    wire_set_counted(b, wire_counted(b) + <uint32_t>bytes)
    return wire_counted(b) <= HELLO_BYTES_MOST


cdef int wire_read(BIO* b, char* into, size_t size, size_t* got) noexcept nogil:
    cdef ssize_t n
    cdef int flags = MSG_PEEK if BIO_test_flags(b, WIRE_EXPECT_PLAINTEXT) else 0

    BIO_clear_retry_flags(b)
    BIO_clear_flags(b, WIRE_DRY)
    while True:
        n = recv(wire_fd(b), into, size, flags)
        if n > 0 and flags == MSG_PEEK:
            if c" " <= into[0] <= c"~":  # records begin with a control character
                BIO_set_flags(b, WIRE_MET_PLAINTEXT)
                BIO_set_retry_read(b)
                return -1
            BIO_clear_flags(b, WIRE_EXPECT_PLAINTEXT)
            flags = 0
            continue
        if n > 0:
            if BIO_test_flags(b, WIRE_EXPECT_HELLO) and not wire_hello_fits(b, n):
                BIO_set_flags(b, WIRE_FLOODED)
                return -1
            if <size_t>n < size:
                BIO_set_flags(b, WIRE_DRY)
            got[0] = n
            return 1
        if n == 0:
            BIO_set_flags(b, BIO_FLAGS_IN_EOF)
            return 0
        if errno == EAGAIN:
            BIO_set_retry_read(b)
            return -1
        if errno != EINTR:
            return -1


# A failure is -1: OpenSSL since 3.2 takes 0 for success.
cdef int wire_write(
    BIO* b, const char* data, size_t size, size_t* taken
) noexcept nogil:
    cdef ssize_t n
    cdef int flags = MSG_NOSIGNAL

    if BIO_test_flags(b, WIRE_MORE):
        flags |= MSG_MORE
    if BIO_test_flags(b, WIRE_EXPECT_HELLO):
        BIO_clear_flags(b, WIRE_EXPECT_HELLO)
        wire_progress(b)
    BIO_clear_retry_flags(b)
    while True:
        n = send(wire_fd(b), data, size, flags)
        if n >= 0:
            taken[0] = n
            return 1
        if errno == EAGAIN:
            BIO_set_retry_write(b)
            return -1
        if errno != EINTR:
            return -1


cdef long wire_control(BIO* b, int command, long number, void* p) noexcept nogil:
    if command == BIO_CTRL_EOF:
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0
    return command == BIO_CTRL_FLUSH  # nothing is held back; nothing else is known


cdef BIO_METHOD* method_new() except NULL:
    cdef int kind = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK
    cdef BIO_METHOD* m = BIO_meth_new(kind, b"fastpath")

    if m == NULL:
        raise MemoryError
    BIO_meth_set_read_ex(m, wire_read)
    BIO_meth_set_write_ex(m, wire_write)
    BIO_meth_set_ctrl(m, wire_control)
    return m


# Against rule 3, and a constant from here on: three functions, for all connections.
cdef BIO_METHOD* METHOD = method_new()


cdef bint wire_dry(const BIO* b) noexcept nogil:
    return BIO_test_flags(b, WIRE_DRY) != 0


cdef void wire_look(BIO* b) noexcept nogil:
    BIO_clear_flags(b, WIRE_DRY)


cdef void wire_expect_plaintext(BIO* b) noexcept nogil:
    BIO_set_flags(b, WIRE_EXPECT_PLAINTEXT)


cdef bint wire_met_plaintext(const BIO* b) noexcept nogil:
    return BIO_test_flags(b, WIRE_MET_PLAINTEXT) != 0


cdef void wire_expect_hello(BIO* b) noexcept nogil:
    BIO_set_flags(b, WIRE_EXPECT_HELLO)


cdef bint wire_count(BIO* b) noexcept nogil:
    wire_set_counted(b, wire_counted(b) + 1)
    if wire_counted(b) <= IDLE_RECORDS_MOST:
        return False
    BIO_set_flags(b, WIRE_FLOODED)
    return True


cdef void wire_progress(BIO* b) noexcept nogil:
    wire_set_counted(b, 0)


cdef bint wire_flooded(const BIO* b) noexcept nogil:
    return BIO_test_flags(b, WIRE_FLOODED) != 0


cdef void wire_more(BIO* b, bint more) noexcept nogil:
    if more:
        BIO_set_flags(b, WIRE_MORE)
    else:
        BIO_clear_flags(b, WIRE_MORE)


cdef void wire_push(BIO* b) noexcept nogil:
    cdef int on = 1

    if BIO_test_flags(b, WIRE_MORE):
        BIO_clear_flags(b, WIRE_MORE)
        setsockopt(wire_fd(b), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))


cdef BIO* wire_new(int fd) noexcept nogil:
    cdef BIO* b = BIO_new(METHOD)

    if b != NULL:
        BIO_set_data(b, <void*><intptr_t>fd)
    return b
