# Tables on their way to the workers. One thread of Python at a time, but for `settle`.
from libc.stdint cimport uint64_t
from fastpath.table.registry cimport Registry
from fastpath.table.table cimport TableBlock
from fastpath.worker.changes cimport ChangeBatch, Changes
from fastpath.worker.fleet cimport fleet_t

cdef class Publisher:
    cdef fleet_t* fleet          # borrowed
    cdef Registry registry
    cdef readonly object state   # table.delta.State
    cdef readonly TableBlock current  # published
    cdef list replaced           # tables that a worker may still read
    cdef Changes changes         # of listeners

    cdef begin(self, fleet_t* fleet)
    cdef _publish(self, TableBlock table, ChangeBatch changes, list replaced)
    cdef _reap(self)
    cdef bint _is_read(self, TableBlock block)
    cdef uint64_t _taken(self)
    cdef close(self)
