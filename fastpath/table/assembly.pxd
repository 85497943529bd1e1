# From a Table to the blocks that workers read.
from fastpath.table.registry cimport Registry

# Bind the vips that are not bound yet, on all or none, and make what `table` needs:
#   VipBlocks by key of its vips and upstreams; those of `old_blocks` that are about
#     the same;
#   what was opened, key -> (address, fds), as it stands in `listening`.
# `health`: key of a backend -> word; told when nothing can fail any more.
# `sockets`: key of a vip -> fds that listen there, the caller's, used and not bound.
cdef tuple assemble(
    table, dict old_blocks, dict listening, Registry registry, int workers,
    health, sockets,
)
