"""Taking over a table: the quiescent point of a worker, and what then listens."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from fastpath.base.linux.atomic cimport acquire_ptr, fence, release_ptr, release_u64
from fastpath.base.linux.file cimport close
from fastpath.http.idle cimport idle_sweep
from fastpath.table.listener cimport listen_change_t, listener_t
from fastpath.table.table cimport table_t
from fastpath.udp.door cimport doors_table
from fastpath.udp.flows cimport flows_prepare
from fastpath.worker.accept cimport accept_start, accept_stop, accept_take
from fastpath.worker.post cimport worker_mail


cdef bint worker_room(worker_t* w, uint32_t slots) noexcept nogil:
    cdef listener_t* listeners
    cdef uint32_t i

    if slots <= w.listener_room:
        return True
    slots = slots + slots // 2
    listeners = <listener_t*>realloc(w.listeners, slots * sizeof(listener_t))
    if listeners == NULL:
        return False
    for i in range(w.listener_room, slots):
        memset(&listeners[i], 0, sizeof(listener_t))
        listeners[i].fd = -1
    w.listeners = listeners
    w.listener_room = slots
    return True


# The change behind `change` that belongs to `table` or to one before it; NULL = none.
cdef inline listen_change_t* change_next(
    listen_change_t* change, const table_t* table
) noexcept nogil:
    cdef listen_change_t* next = <listen_change_t*>acquire_ptr(&change.next)
    return next if next != NULL and next.generation <= table.generation else NULL


# Name the newest table as one that must not be freed, and return it.
cdef table_t* worker_claim(worker_t* w) noexcept nogil:
    cdef void* table = acquire_ptr(&w.fleet.table)
    cdef void* again

    # Python publishes, then looks at what is claimed. Here it is the other way round,
    # so one of the two sees what the other did (hazard pointers; Michael 2004).
    while table != w.context.table:
        release_ptr(&w.claimed, table)
        fence()
        again = acquire_ptr(&w.fleet.table)
        if again == table:
            break
        table = again
    return <table_t*>table


# Follow the changes of listeners up to `table`: stop those that go, while the old table
# is in use, and take those that come. False = no memory, try again at the next turn.
cdef bint worker_follow(worker_t* w, const table_t* table) noexcept nogil:
    cdef listen_change_t* change = change_next(w.changed, table)
    cdef uint32_t room = 0
    cdef bint datagrams = False

    while change != NULL:
        if change.listener >= room:
            room = change.listener + 1
        datagrams |= change.udp
        change = change_next(change, table)
    if not worker_room(w, room) or (datagrams and not flows_prepare(&w.flows)):
        return False
    change = change_next(w.changed, table)
    while change != NULL:
        if change.fds == NULL:
            accept_stop(w, change.listener, change.drains)
        else:
            accept_take(w, change, change.fds[w.context.worker])
        change = change_next(change, table)
    return True


# Listen where the new table says so.
cdef void worker_listen(worker_t* w, const table_t* table) noexcept nogil:
    cdef listen_change_t* change = change_next(w.changed, table)

    while change != NULL:
        if change.fds != NULL:
            accept_start(w, change.listener)
        w.changed = change
        change = change_next(change, table)


# The quiescent point: nothing of the old table is in use here. Tables that were
# replaced before this worker came by are skipped; changes of listeners never are.
cdef void worker_take_table(worker_t* w) noexcept nogil:
    cdef table_t* table = worker_claim(w)

    if table == w.context.table:
        return
    # Clients on their way here came by the old table: in the next but one, their slot
    # may be another vip's.
    if w.context.table != NULL:
        worker_mail(w)
    w.starved = not worker_follow(w, table)
    if w.starved:
        w.context.stats.starved += 1
        return
    w.context.table = table
    release_ptr(&w.using, table)
    worker_listen(w, table)
    if table.swept > w.swept:
        idle_sweep(&w.http)
        w.swept = table.generation
    doors_table(&w.flows)
    release_u64(&w.generation, table.generation)


# Descriptors of listeners that this worker was given and never took.
cdef void worker_untaken(worker_t* w) noexcept nogil:
    cdef listen_change_t* change = w.changed

    while change != NULL and change.next != NULL:
        change = change.next
        if change.fds != NULL and change.fds[w.context.worker] != -1:
            close(change.fds[w.context.worker])
