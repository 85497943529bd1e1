# From a Table to the blocks that workers read.
from fastpath.registry cimport Registry

# VipBlocks by key, for the vips and upstreams of `table`; those of `old_blocks` that
# are about the same. `listening`: key of a vip -> (address, fds).
cdef dict build(table, dict old_blocks, dict listening, Registry registry, int workers)

# Bind the vips that are not bound yet, on all or none: key -> (address, fds).
cdef dict open_all(table, dict listening, int workers)
