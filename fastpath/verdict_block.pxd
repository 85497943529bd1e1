# Verdicts as workers read them, compiled from Python's words.
from fastpath.http.location cimport filter_t
from fastpath.http.verdict cimport verdict_t
from fastpath.http1.compose cimport headers_t

# A Forward or Reply. Shared: its verdict lives as long as anything holds it.
cdef class VerdictBlock:
    cdef verdict_t* verdict      # held
    cdef char* unused            # behind its text: for the next list

    cdef _fill_edits(self, headers_t* headers, edits)
    cdef _fill_mappings(self, filter_t* f, mappings)
