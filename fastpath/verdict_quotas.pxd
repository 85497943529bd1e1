# Quotas by name, for verdicts that are compiled.
from libc.stdint cimport uint64_t
from fastpath.http.quota cimport quota_t

# One, shared by all verdicts that name it.
cdef class QuotaBlock:
    cdef quota_t* quota          # held

# Those that something may use. One thread at a time.
cdef class Quotas:
    cdef dict blocks             # name -> QuotaBlock
    cdef uint64_t sweep_at       # so many names: forget those that are idle

    # The quota that a verdict's spec names, with the limits that it says from now on;
    # None for None. `compiled` are verdicts that are kept for the next time; they are
    # dropped before names are looked through.
    cdef QuotaBlock take(self, spec, dict compiled)
