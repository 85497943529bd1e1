# Counters of all workers of a fleet, and their notices, as values of api.snapshot.
from fastpath.base.mailbox cimport mailbox_t
from fastpath.table.registry cimport Registry
from fastpath.worker.fleet cimport fleet_t

# Stats as they stand, of these VipBlocks and UpstreamBlocks by key, and of the backends
# of these keys. `lost` counts by vip the records that Python had no room for; so many
# names of `quotas` are known.
cdef report(
    fleet_t* fleet, Registry registry, dict vips, dict upstreams, backends, generation,
    lost, int quotas,
)

# Forget the counters of slots that came free: those in `freed` of their Numbers.
cdef void report_forget(fleet_t* fleet, Registry registry) noexcept

# All Notices that are waiting; the mailbox is readable again when more come.
cdef report_notices(mailbox_t* m, Registry registry)
