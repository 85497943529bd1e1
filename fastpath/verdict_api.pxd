# Questions and verdicts between Python and the workers.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from fastpath.base.mailbox cimport letter_t, mailbox_t
from fastpath.http.verdict cimport budget_t, epochs_t
from fastpath.table.registry cimport Numbers
from fastpath.verdict_block cimport VerdictBlock
from fastpath.verdict_quotas cimport Quotas
from fastpath.verdict_tags cimport Tags

# What Python keeps about an engine's requests.
cdef class VerdictApi:
    cdef dict blocks             # (verdict, slot, stamp) -> VerdictBlock
    cdef dict waiting            # (worker, index) -> the Question of that client
    cdef list gone               # Questions withdrawn that nobody asked for yet
    cdef list ended              # Records that nobody asked for yet
    cdef object lost             # Counter of those that found no room in it, by vip
    cdef dict meant              # slot -> vip and its Http.key, as last seen
    cdef Quotas quotas           # that verdicts name
    cdef Tags tags               # and what was withdrawn

    # What the workers share, and the bytes that they may remember together; ValueError
    # if that is no size.
    cdef open(self, epochs_t* epochs, budget_t* budget, most, int workers)

    # What slots mean if these VipBlocks change, by key; None = goes. To be kept in
    # `meant` when they do.
    cdef dict meanings(self, dict changes)

    # Whether that is something else for a slot. What is remembered by slot and parts is
    # to be withdrawn then.
    cdef bint differs(self, dict meant) except *

    # All Questions that wait; `vips` knows keys by slot.
    cdef list questions(self, mailbox_t* m, Numbers vips)

    # Questions withdrawn since the last call. `question` was answered: it waits no
    # more.
    cdef list withdrawn(self)
    cdef settle(self, question)

    # All Records since the last call.
    cdef list records(self)

    cdef _read(self, const letter_t* letter, dict fresh, Numbers vips)
    cdef _withdraw(self, tuple place, dict fresh)

    # Compile a verdict; the same one again costs nothing. `upstreams` are the
    # UpstreamBlocks by name; KeyError if there is no such upstream. None for None;
    # ValueError if no response waits that could pass.
    cdef VerdictBlock take(self, question, verdict, dict upstreams)

# A letter that answers `question` with a verdict, to be shared as `key`, parts among
# `names`, says, and to be withdrawn as `tag`. ValueError if `names` lacks one of them,
# or if the verdict may not be remembered so. `label` is for records.
cdef answer_letter(
    letter_t* letter, question, VerdictBlock block, ttl_s, names, key, str tag,
    uint64_t label, Tags tags,
)
