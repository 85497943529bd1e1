# A UDP flow: a client's address, the address that it dialled, and a socket connected to
# a backend.
#
#     first datagram -> opened -> steered -> answered -> ... -> dropped
#                                  ^    |
#                                  +----+ another one: this one refused, died or left
#
# `flow_drop` is the one way out.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.stats cimport DROP
from fastpath.table.table cimport vip_t
from fastpath.udp.index cimport key_t
from fastpath.udp.state cimport door_t, flow_t, flows_t

# Send the replies that wait in the outbox.
cdef void flows_flush(flows_t* fs) noexcept nogil

# ---- For forward, reply and door.

cdef flow_t* flow_find(flows_t* fs, const key_t* key, uint32_t hash) noexcept nogil

# A place among the flows of a vip.
cdef struct admitted_t:
    uint64_t  source         # hash of the client's address
    uint8_t   by_source

# Whether the vip admits one more flow of a client; if not, `loss` says why.
cdef bint flow_admit(
    flows_t* fs, const vip_t* v, const addr_t* client, admitted_t* a, int* loss
) noexcept nogil

# A flow that was admitted, steered nowhere yet; the caller sets the client's name.
# Return NULL if it cannot be: `loss` says why.
cdef flow_t* flow_open(
    flows_t* fs, door_t* door, const vip_t* v, const key_t* key, uint32_t hash,
    const admitted_t* a, int* loss,
) noexcept nogil

# The one way out: send what waits, close the socket, count the reason, free the slot.
cdef void flow_drop(flows_t* fs, flow_t* f, DROP reason) noexcept nogil

# Close the socket to the backend, if there is one; another is picked for the next
# datagram of the client.
cdef void flow_leave(flows_t* fs, flow_t* f) noexcept nogil

# Whether the vip of a flow is still in the table; if not, the flow is no more.
cdef bint flow_served(flows_t* fs, flow_t* f) noexcept nogil

# As flow_served, before a datagram goes to the backend: one that has left the pool, or
# died, is taken from the flow.
cdef bint flow_check(flows_t* fs, flow_t* f) noexcept nogil
