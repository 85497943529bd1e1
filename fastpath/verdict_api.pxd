# Questions and verdicts between Python and the workers.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from fastpath.base.mailbox cimport letter_t, mailbox_t
from fastpath.http.verdict cimport verdict_t
from fastpath.http1.compose cimport edit_t, headers_t

# A Forward or Reply as workers read it. Shared: it lives as long as one of them has it.
cdef class VerdictBlock:
    cdef verdict_t* verdict      # held
    cdef edit_t* unused          # behind its text: for the next edit

    cdef _fill_edits(self, headers_t* headers, edits)

# What Python has of an engine's requests.
cdef class Docket:
    cdef dict blocks             # (verdict, slot, stamp) -> VerdictBlock
    cdef object ended            # deque of the last Records that nobody asked for yet
    cdef dict meant              # slot -> vip and its Http.key, as last seen

    # These are the VipBlocks from now on. What is remembered by slot and parts is
    # withdrawn if either has come to mean something else.
    cdef note(self, dict blocks, uint64_t* epoch)

    # All Questions that wait; `vips` maps slots to keys. `epoch` is the one of now.
    cdef list questions(self, mailbox_t* m, dict vips, uint64_t epoch)

    # All Records since the last call.
    cdef list records(self)

    cdef _read(self, const letter_t* letter, list questions, dict vips, uint64_t epoch)

    # Compile a verdict; the same one again costs nothing. `vips` are the VipBlocks of
    # the table by key; KeyError if there is no such upstream.
    cdef VerdictBlock take(self, verdict, dict vips)

# A letter that answers `question` with a verdict, to be shared as `key`, parts among
# `names`, says. ValueError if `names` has not all of them.
cdef docket_letter(
    letter_t* letter, question, VerdictBlock block, ttl_s, names, key
)
