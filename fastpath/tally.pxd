# Counters of all workers of a fleet, and their notices, as values of fastpath.snapshot.
from fastpath.fleet cimport fleet_t
from fastpath.mailbox cimport mailbox_t
from fastpath.registry cimport Registry

# Stats as they stand, with the vips of these slots: {(host, port): slot}.
cdef tally(fleet_t* fleet, Registry registry, dict vip_slots, generation)

# All Notices that are waiting; the mailbox is readable again when more come.
cdef tally_notices(mailbox_t* m, Registry registry)
