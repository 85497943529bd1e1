# Sockets that accept: one per worker and vip, side by side with SO_REUSEPORT; or, where
# they were given to us, shared by the workers.
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from fastpath.base.addr cimport addr_t

cdef enum:
    VIP_BY_ADDRESS = 0xffffffff  # the address that a client dialled tells the vip

cdef struct listener_t:
    int       fd                # owned; -1 = none
    uint32_t  slot              # of this listener
    uint32_t  vip               # slot, or VIP_BY_ADDRESS
    uint32_t  batch             # accepts to try at the next wake
    uint8_t   starting          # given by a table that is not in use yet
    uint64_t  paused_until_ms   # 0 = taking
    void*     door              # door_t*, of UDP; borrowed; then there is no fd here

# A change of what workers listen on. Python links them in the order of the tables that
# they belong to; a worker follows the links when it takes a table, and may take
# several tables at once.
cdef struct listen_change_t:
    listen_change_t* next       # atomic; Python appends, workers read
    uint64_t   generation       # of the table
    uint32_t   listener         # slot
    uint32_t   vip              # slot, or VIP_BY_ADDRESS
    int*       fds              # owned; one a worker, its own once taken; NULL = stop
    uint8_t    udp              # datagrams; some workers may have no fd, -1
    uint8_t    shared           # UDP: another process may read there, too
    uint8_t    drains           # stop, but let flows go on

# What children inherit: so accept4 costs no setsockopt.
cdef struct listen_options_t:
    int keepalive_s             # 0 = no keepalive
    int user_timeout_ms
    bint client_first           # the protocol begins with the client's bytes
    int backlog

# Bind and listen on `at`; port 0 takes a free one and writes it back. `beside`: next to
# sockets of this user that listen there already; otherwise that fails (EADDRINUSE).
# `transparent` takes connections to addresses that are not ours (IP_TRANSPARENT).
# Return the fd, which is the caller's, or -errno.
cdef int listener_open(
    addr_t* at, const listen_options_t* options, bint beside, bint transparent
) noexcept nogil

# The steps of that, for datagrams, too. Return 0 or -errno; set_transparent: or -1.
cdef int listener_bind(int fd, addr_t* at, bint beside) noexcept nogil
cdef int set_transparent(int fd, int family) noexcept nogil

# The options of a Vip or Listener.
cdef listen_options_t listen_options(spec) except *

# The address that the client of an accepted socket dialled. Return 0 or -errno.
cdef int listener_dialled(int fd, addr_t* dialled) noexcept nogil

# Set what can be changed on a live listener. Return 0 or -errno.
cdef int listener_set(int fd, const listen_options_t* options) noexcept nogil

# Take one client. Return its fd, which is the caller's, or -errno.
cdef int listener_accept(int fd, addr_t* client) noexcept nogil

# See the class. `path` is of a file to be removed with them; None = there is none.
cdef class Sockets:
    cdef int* fds                # owned, -1 = none; owned by workers once `given`
    cdef int count
    cdef bint given
    cdef bytes path
    cdef readonly bint shared    # they were given to us
    cdef readonly tuple address  # (host, port) as bound

    cdef void shut(self) noexcept

cdef class OtherOptions:
    cdef listen_options_t options
    cdef Sockets sockets

    cdef void set(self) noexcept
