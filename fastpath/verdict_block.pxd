# Verdicts as workers read them, compiled from Python's words.
from fastpath.http.verdict cimport verdict_t
from fastpath.http1.compose cimport edit_t, headers_t

# A Forward or Reply. Shared: its verdict lives as long as somebody has it.
cdef class VerdictBlock:
    cdef verdict_t* verdict      # held
    cdef edit_t* unused          # behind its text: for the next edit

    cdef _fill_edits(self, headers_t* headers, edits)
