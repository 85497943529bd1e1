# Tables on their way to the workers. One thread of Python at a time, but for `settle`.
from libc.stdint cimport uint64_t
from fastpath.table.registry cimport Registry
from fastpath.table.table cimport TableBlock
from fastpath.verdict_api cimport VerdictApi
from fastpath.worker.changes cimport ChangeBatch, Changes
from fastpath.worker.fleet cimport fleet_t

# A table to be published, and all that goes with it: made before, so that publishing
# needs no memory and cannot fail.
cdef class Edition:
    cdef TableBlock table
    cdef ChangeBatch changes
    cdef list replaced           # tables that a worker may still read, by then
    cdef list told               # (slot, HEALTH) of backends
    cdef list options            # OtherOptions of live listeners
    cdef bint forgets            # verdicts, as slots come to mean something else

cdef class Publisher:
    cdef fleet_t* fleet          # borrowed
    cdef Registry registry
    cdef readonly object state   # table.delta.State
    cdef readonly TableBlock current  # published
    cdef list replaced           # tables that a worker may still read
    cdef Changes changes         # of listeners

    cdef begin(self, fleet_t* fleet)
    cdef change(self, delta, health, sockets, VerdictApi verdicts)
    cdef Edition _edition(self, draft)
    cdef _keep(self, draft, health, VerdictApi verdicts)
    cdef void _publish(self, Edition edition) noexcept
    cdef _reap(self)
    cdef list _still_read(self)
    cdef bint _is_read(self, TableBlock block) noexcept
    cdef uint64_t _taken(self) noexcept
    cdef close(self)
