"""Tables as workers read them: arrays by slot, and the index of vips by address.

A table is made of the one before and of what changed. An array is copied down to the
pages that hold a change: a table of 100,000 vips costs a copy of 391 pointers, and a
page of 256 for each change.

A list is copied as a slice. Where list() finds no memory, CPython holds on to the list
that was to be copied for good (3.11.7, list_extend), and so to its blocks and slots.
"""

import time

cimport cython
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from fastpath.base.addr cimport addr_parse
from fastpath.base.linux.socket cimport IPPROTO_TCP
from fastpath.ring.rendezvous cimport mix64

cdef enum:
    ENTRIES_LEAST = 16


@cython.no_gc
cdef class Block:
    """Base of what an array points to.

    No object that it refers to refers back to it, so the garbage collector need not go
    through 100,000 blocks; and it must not clear one that has not given its slot back.
    """


@cython.no_gc
cdef class Page:
    """PAGE pointers, and the blocks that they point into."""

    cdef void* items[PAGE]
    cdef list blocks

    def __cinit__(self, Page old=None):
        # The list keeps alive what the pointers lead to.
        if old is None:
            self.blocks = [None] * PAGE
        else:
            self.blocks = old.blocks[:]
            memcpy(self.items, old.items, sizeof(self.items))

    cdef put(self, uint32_t at, Block block):
        self.blocks[at] = block
        self.items[at] = block.body if block is not None else NULL


@cython.no_gc
cdef class Array:
    """Blocks by slot. Never changes."""

    def __cinit__(self, list pages=None):
        cdef uint32_t i

        self.pages = pages if pages is not None else []
        self.array.count = len(self.pages)
        self.array.pages = <void***>calloc(max(1, self.array.count), sizeof(void**))
        if self.array.pages == NULL:
            raise MemoryError
        for i in range(self.array.count):
            if self.pages[i] is not None:
                self.array.pages[i] = (<Page>self.pages[i]).items

    def __dealloc__(self):
        free(self.array.pages)

    cdef Array changed(self, dict changes):
        """This array with other blocks, or None, in some slots."""
        # `fresh` has the pages that this change has copied already: one that is shared
        # with the array before must not be written to.
        if not changes:
            return self
        pages = self.pages[:]
        fresh = {}
        for slot, block in changes.items():
            number = slot // PAGE
            page = fresh.get(number)
            if page is None:
                # Slots are given in order: at most one page is missing, as a rule.
                while number >= len(pages):
                    pages.append(None)
                page = Page(pages[number])
                fresh[number] = pages[number] = page
            (<Page>page).put(slot % PAGE, block)
        return Array(pages)


# ---- Vips by address.

cdef inline uint32_t hash_of(uint8_t protocol, const addr_t* a) noexcept nogil:
    cdef uint64_t words[2]
    cdef uint64_t rest = (<uint64_t>a.family << 32) | (<uint64_t>a.port << 8) | protocol

    # Without a seed: the addresses are those of the table, no client can choose them.
    memcpy(words, a.ip, 16)
    return <uint32_t>(mix64(words[0] ^ mix64(words[1] ^ mix64(rest))) >> 32)


cdef inline bint same_address(const addr_t* a, const addr_t* b) noexcept nogil:
    return memcmp(a, b, sizeof(addr_t)) == 0


cdef uint32_t table_find(
    const table_t* t, uint8_t protocol, const addr_t* address
) noexcept nogil:
    cdef const index_t* x = t.index
    cdef uint32_t hash = hash_of(protocol, address)
    cdef uint32_t at = hash & x.mask
    cdef const entry_t* e

    # Ends at a free entry: the index is at most half full, and no entry is marked as
    # deleted (see index_drop), so a run of taken ones is short.
    while x.entries[at].slot != 0:
        e = &x.entries[at]
        if e.protocol == protocol and same_address(&e.addr, address):
            return e.slot - 1
        at = (at + 1) & x.mask
    return SLOT_NONE


cdef void index_put(index_t* x, const entry_t* e) noexcept nogil:
    cdef uint32_t at = e.hash & x.mask

    # There is room: Index.__cinit__ has made it.
    while x.entries[at].slot != 0:
        at = (at + 1) & x.mask
    x.entries[at] = e[0]
    x.count += 1


# Take the entry of `slot` out, and move those behind it so that no search ends early.
cdef void index_drop(index_t* x, uint32_t hash, uint32_t slot) noexcept nogil:
    cdef uint32_t at = hash & x.mask
    cdef uint32_t next, home

    # It is there: Python drops what an index before has, and nothing else.
    while x.entries[at].slot != slot + 1:
        at = (at + 1) & x.mask
    next = at
    while True:
        next = (next + 1) & x.mask
        if x.entries[next].slot == 0:
            break
        home = x.entries[next].hash & x.mask
        # An entry may fill the gap unless its home lies behind the gap: a search for it
        # would begin there, and not come by. (Knuth, 6.4, algorithm R.)
        if ((next - home) & x.mask) >= ((next - at) & x.mask):
            x.entries[at] = x.entries[next]
            at = next
    x.entries[at].slot = 0
    x.count -= 1


@cython.no_gc
cdef class Index:
    """Slots of vips by address. Never changes."""

    def __cinit__(self, Index old=None, list gone=None, list come=None):
        """`gone` and `come` are VipBlocks, no longer and newly to be found."""
        cdef uint32_t room = ENTRIES_LEAST
        cdef index_t* x = &self.index
        cdef uint32_t count = len(come or ())
        cdef entry_t e

        # Room for all of the old ones, although some go. It never shrinks: a table that
        # grew and shrank by turns would be hashed anew each time.
        count += old.index.count if old is not None else 0
        while room < 2 * count:
            room *= 2
        if old is not None and old.index.mask + 1 >= room:
            room = old.index.mask + 1
        x.entries = <entry_t*>calloc(room, sizeof(entry_t))
        if x.entries == NULL:
            raise MemoryError
        x.mask = room - 1
        # Those that go first: one that changes is in both lists.
        if old is not None:
            self._take(old)
        for block in gone or ():
            _enter(&e, block)
            index_drop(x, e.hash, e.slot - 1)
        for block in come or ():
            _enter(&e, block)
            index_put(x, &e)

    def _take(self, Index old):
        cdef index_t* x = &self.index
        cdef uint32_t i

        # Of one size, as nearly always: a copy, and no hash.
        if old.index.mask == x.mask:
            x.count = old.index.count
            memcpy(x.entries, old.index.entries, (x.mask + 1) * sizeof(entry_t))
            return
        for i in range(old.index.mask + 1):
            if old.index.entries[i].slot != 0:
                index_put(x, &old.index.entries[i])

    def __dealloc__(self):
        free(self.index.entries)

    def __len__(self):
        return self.index.count


cdef void _enter(entry_t* e, Block block) noexcept:
    cdef vip_t* v = <vip_t*>block.body

    e.addr = v.addr
    e.slot = block.slot + 1
    e.hash = hash_of(v.protocol, &v.addr)
    e.protocol = v.protocol


@cython.no_gc
cdef class TableBlock:
    """A generation: the table before it and what changed, by slot.

    `found` is the lists of VipBlocks that the index loses and gains; `ended` is whether
    a vip of UDP goes.
    """

    def __cinit__(
        self, TableBlock old=None, dict vips=None, dict pools=None,
        dict upstreams=None, tuple found=(None, None), bint ended=False,
    ):
        cdef table_t* t = &self.table

        # What did not change is shared with the table before; both keep it alive.
        if old is None:
            self.vips, self.pools, self.upstreams = Array(), Array(), Array()
            self.index = Index()
        else:
            self.vips = old.vips.changed(vips)
            self.pools = old.pools.changed(pools)
            self.upstreams = old.upstreams.changed(upstreams)
            self.index = old.index
            if found[0] or found[1]:
                self.index = Index(old.index, found[0], found[1])
            t.generation = old.table.generation + 1
            # For workers that skip tables: one of those may have changed upstreams.
            t.swept = t.generation if upstreams else old.table.swept
            t.left = t.generation if ended else old.table.left
        t.vips = self.vips.array
        t.pools = self.pools.array
        t.upstreams = self.upstreams.array
        t.index = &self.index.index

    @property
    def generation(self):
        """Number of this table; 0 = the empty one that an engine starts with."""
        return self.table.generation

    def find(self, str host, uint16_t port):
        """Slot of the vip that is not bound at an address, or None. For tests."""
        cdef addr_t address
        cdef uint32_t slot

        addr_parse(&address, host.encode(), port)
        slot = table_find(&self.table, IPPROTO_TCP, &address)
        return None if slot == SLOT_NONE else slot

    def time_finds(self, addresses, uint32_t rounds):
        """Nanoseconds of a look-up of these (host, port), in turn. For benches."""
        return _time_finds(&self.table, addresses, rounds)


cdef _time_finds(const table_t* t, addresses, uint32_t rounds):
    cdef uint32_t count = len(addresses)
    cdef addr_t* all = <addr_t*>malloc(max(1, count) * sizeof(addr_t))
    cdef uint64_t found = 0
    cdef uint32_t i, _round

    if all == NULL:
        raise MemoryError
    try:
        for i, (host, port) in enumerate(addresses):
            addr_parse(&all[i], host.encode(), port)
        # CPU time: what else runs on the machine does not count. `found` keeps the
        # compiler from dropping the loop.
        began_ns = time.thread_time_ns()
        for _round in range(rounds):
            for i in range(count):
                found += table_find(t, IPPROTO_TCP, &all[i]) != SLOT_NONE
        return (time.thread_time_ns() - began_ns) / (count * rounds), found
    finally:
        free(all)
