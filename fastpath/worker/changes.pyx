"""The list of changes that workers follow: Python appends at its end and frees at its
beginning what every worker has passed.

A worker remembers the last change that it followed, so the last one that all have
followed is kept.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from fastpath.base.linux.atomic cimport release_ptr
from fastpath.table.listener cimport VIP_BY_ADDRESS, Sockets


cdef class ChangeBatch:
    """Changes that belong to one table."""

    def __cinit__(self):
        self.freed = []
        self.opened = []

    def __dealloc__(self):
        cdef listen_change_t* change

        while self.first != NULL:
            change = self.first
            self.first = change.next
            free(change.fds)
            free(change)

    cdef listen_change_t* add(self, uint64_t generation, uint32_t slot) except NULL:
        cdef listen_change_t* change = <listen_change_t*>calloc(
            1, sizeof(listen_change_t)
        )

        if change == NULL:
            raise MemoryError
        change.generation = generation
        change.listener = slot
        if self.first == NULL:
            self.first = change
        else:
            self.last.next = change
        self.last = change
        return change


cdef class Changes:
    """All changes that some worker has not followed yet, and the slots of listeners."""

    def __cinit__(self):
        self.unused = []

    def __dealloc__(self):
        self.close()

    def close(self):
        """Free all: no worker is left."""
        cdef listen_change_t* change

        while self.oldest != NULL:
            change = self.oldest
            self.oldest = change.next
            free(change.fds)
            free(change)
        self.last = NULL

    cdef ChangeBatch draft(self, uint64_t generation, draft):
        cdef ChangeBatch batch = ChangeBatch()
        cdef listen_change_t* change
        cdef Sockets sockets
        cdef uint32_t slot

        for key in draft.closed:
            slot = draft.state.listening[key].slot
            change = batch.add(generation, slot)
            change.drains = draft.drains
            batch.freed.append(slot)
        for key, listening in draft.opened.items():
            # Workers follow changes in order: a slot may be used again at once.
            slot = self.slots + batch.fresh
            if batch.reused < len(self.unused):
                batch.reused += 1
                slot = self.unused[len(self.unused) - batch.reused]
            else:
                batch.fresh += 1
            listening.slot = slot
            block = draft.vips.get(key)
            change = batch.add(generation, slot)
            change.vip = VIP_BY_ADDRESS if block is None else block.slot
            sockets = listening.sockets
            change.udp = key[0] == "udp"
            change.shared = sockets.shared
            batch.opened.append(sockets)
            change.fds = <int*>malloc(sockets.count * sizeof(int))
            if change.fds == NULL:
                raise MemoryError
            memcpy(change.fds, sockets.fds, sockets.count * sizeof(int))
        batch.unused = self.unused[:len(self.unused) - batch.reused] + batch.freed
        return batch

    cdef void append(self, listen_change_t* head, ChangeBatch batch) noexcept:
        cdef Sockets sockets

        if batch.first == NULL:
            return
        for sockets in batch.opened:
            sockets.given = True
        self.unused = batch.unused
        self.slots += batch.fresh
        if self.last == NULL:
            self.oldest = batch.first
            release_ptr(&head.next, batch.first)
        else:
            release_ptr(&self.last.next, batch.first)
        self.last = batch.last
        batch.first = NULL

    cdef void reap(self, uint64_t generation) noexcept:
        cdef listen_change_t* change

        # A worker stands on the last change that it followed: that one stays.
        while self.oldest != NULL and self.oldest.next != NULL and (
            self.oldest.next.generation <= generation
        ):
            change = self.oldest
            self.oldest = change.next
            free(change.fds)
            free(change)
