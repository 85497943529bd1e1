# Doors: sockets that clients send to, one for each vip that is bound and each
# transparent listener, in each worker.
from libc.stdint cimport uint32_t
from fastpath.table.listener cimport listen_change_t
from fastpath.udp.state cimport door_t, flows_t

# Own a socket from now on; read from it from door_start on. NULL = no memory; the fd
# is closed then, and counted as unwatched.
cdef door_t* door_take(
    flows_t* fs, const listen_change_t* change, int fd
) noexcept nogil

# Return False if epoll has no room: doors_resume tries again.
cdef bint door_start(flows_t* fs, door_t* door) noexcept nogil

# Forward what has come already, by the table in use. Then, for a drain, take no new
# flows; otherwise close it, and its flows end.
cdef void door_stop(flows_t* fs, door_t* door, bint drains) noexcept nogil

# The door is readable.
cdef void door_event(flows_t* fs, uint32_t index, uint32_t generation) noexcept nogil

# Watch again what epoll had no room for. Return whether some still wait.
cdef bint doors_resume(flows_t* fs) noexcept nogil

# A table is in use from now on. Doors of vips that have gone while they drained close.
cdef void doors_table(flows_t* fs) noexcept nogil
