# Workers, and what those of one engine share.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.affinity cimport affinity_t
from fastpath.base.context cimport context_t
from fastpath.base.mailbox cimport letter_t, mailbox_t
from fastpath.http.state cimport conns_t, parked_t
from fastpath.http.verdict cimport budget_t, epochs_t
from fastpath.table.listener cimport listen_change_t, listener_t
from fastpath.tcp.batch cimport batch_t
from fastpath.tcp.relay cimport relays_t

cdef enum:
    WORKERS_MOST = 64
    ACCEPTS_MOST = 16       # taken at once from one listener
    CROWD_MOST = 16         # listeners at which more clients wait than were taken
    CROWD_EVENTS = 32       # between two looks at them
    PAUSE_MS = 100          # no accept after descriptors ran out
    RESETS_MOST = 16        # asked for and not finished
    RESET_STEP = 1000       # relays looked at in one turn for each

# A reset that is under way.
cdef struct reset_t:
    uint32_t slot
    uint32_t next           # relay to look at
    bint     silent         # only relays whose backend has said nothing yet

# A letter from Python. Their list has no bound, so that Python never waits for room.
cdef struct post_t:
    post_t*   next
    letter_t  letter

# What all workers of an engine share.
cdef struct fleet_t:
    int         count
    worker_t*   workers[WORKERS_MOST]   # borrowed; the engine's
    void*       table                   # atomic; table_t*, Python writes
    listen_change_t changes             # head of the list; itself no change
    mailbox_t   notices
    mailbox_t   questions               # of requests without a remembered verdict
    epochs_t    epochs                  # of verdicts in force, Python writes
    budget_t    budget                  # of memories of verdicts
    parked_t    parked                  # questions that wait
    uint64_t    tls_bytes               # of OpenSSL's buffers, each worker
    affinity_t  affinity                # which backend a source had

cdef struct worker_t:
    fleet_t*     fleet           # borrowed
    int          reserve         # owned fd; closed to have one to refuse a client with
    bint         stopping
    bint         starved         # no memory for the newest table
    # What Python may not free: the table in use, and one that is about to be.
    void*        using           # atomic; table_t*
    void*        claimed         # atomic; table_t*
    uint64_t     generation      # atomic; of the table in use: the quiescent point
    listen_change_t* changed     # borrowed; the last change that was followed
    post_t*      posts           # atomic; newest first; Python adds, we take all
    post_t*      unread          # owned; taken, the oldest first
    uint64_t     swept           # table_t.swept as of the last sweep
    bint         streaming       # HTTP moves so much that coalescing pays
    uint64_t     streamed_ms     # when that was judged, and what had been moved by then
    uint64_t     streamed
    uint32_t     crowd_count
    uint32_t     crowd[CROWD_MOST]   # slots of those listeners
    uint64_t     resume_ms       # when paused listeners are looked at; 0 = none is
    uint32_t     reset_count
    reset_t      resets[RESETS_MOST]
    listener_t*  listeners       # owned; by listener slot
    uint32_t     listener_room
    context_t    context
    mailbox_t    mailbox
    relays_t     relays
    batch_t      batch
    conns_t http
