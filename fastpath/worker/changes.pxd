# Changes of what workers listen on, as Python appends them.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.table.listener cimport listen_change_t

# Of one table, linked; not seen by any worker yet.
cdef class ChangeBatch:
    cdef listen_change_t* first   # owned until it is appended
    cdef listen_change_t* last
    cdef list freed               # slots of listeners that stop
    cdef list opened              # Sockets that workers have once it is appended
    cdef list unused              # Changes.unused once it is appended
    cdef uint32_t reused          # slots taken from Changes.unused
    cdef uint32_t fresh           # slots that no listener had before

    cdef listen_change_t* add(self, uint64_t generation, uint32_t slot) except NULL

cdef class Changes:
    cdef listen_change_t* last    # the newest that was appended; NULL = none
    cdef listen_change_t* oldest  # owned, and all behind it; NULL = none
    cdef uint32_t slots           # of listeners, given so far
    cdef list unused              # of them

    # What a draft changes; gives its new listeners their slots.
    cdef ChangeBatch draft(self, uint64_t generation, draft)

    # Let workers see a batch, behind those before it. Its sockets are theirs then.
    cdef void append(self, listen_change_t* head, ChangeBatch batch) noexcept

    # All workers have reached this generation: free what they have followed.
    cdef void reap(self, uint64_t generation) noexcept
