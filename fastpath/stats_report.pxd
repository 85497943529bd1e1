# Counters of all workers of a fleet, and their notices, as values of fastpath.snapshot.
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.stats cimport stats_t
from fastpath.table.registry cimport Registry
from fastpath.worker.fleet cimport fleet_t

# Stats as they stand, of the vips and upstreams of these VipBlocks, by key.
cdef tally(fleet_t* fleet, Registry registry, dict blocks, generation)

# Make room for what these blocks count, in one worker's counters.
cdef tally_reserve(stats_t* s, Registry registry, dict blocks)

# Slots of backends and vips that came free start from zero for whoever gets them next.
cdef tally_forget(stats_t* s, backends, vips)

# All Notices that are waiting; the mailbox is readable again when more come.
cdef tally_notices(mailbox_t* m, Registry registry)
