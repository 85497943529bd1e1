"""From a Table to the blocks that workers read; what did not change stays the same."""

from fastpath.base.linux.clock cimport clock_us
from fastpath.table.registry cimport Registry
from fastpath.table.table cimport PoolBlock, VipBlock

from fastpath.table.listener import (
    close_listeners,
    open_listeners,
    set_listeners,
    share_listeners,
)
from fastpath.table.registry import HEALTHS


cdef tuple assemble(
    table, dict old_blocks, dict listening, Registry registry, int workers,
    health, sockets,
):
    _check_health(table, health)
    opened = open_all(table, listening, workers, sockets)
    try:
        blocks = build(table, old_blocks, listening | opened, registry, workers)
    except BaseException:
        for key, (_, fds) in opened.items():
            close_listeners(fds)
            if key in registry.vip_slots:
                registry.drop_vip(key)
        raise
    for key, how in health.items():
        registry.tell(registry.named(key), HEALTHS[how], clock_us() // 1000)
    return blocks, opened


def _check_health(table, health):
    """Before anything is done, so that nothing has to be undone."""
    if not health:
        return
    specs = [*table.vips.values(), *table.upstreams.values()]
    named = {backend.key for spec in specs for backend in spec.pool.backends}
    for key, how in health.items():
        if key not in named or how not in HEALTHS:
            raise KeyError(key if key not in named else how)


cdef PoolBlock pool_of(VipBlock old, spec, Registry registry):
    """The pool of a vip or upstream; the old one if it did not change."""
    if old is not None and old.spec.pool == spec.pool:
        return old.pool
    return PoolBlock(spec.pool, registry)


cdef dict build(table, dict old_blocks, dict listening, Registry registry, int workers):
    cdef VipBlock old

    blocks = {}
    for key, vip in table.vips.items():
        old = old_blocks.get(key)
        if old is not None and old.spec == vip:
            blocks[key] = old
            continue
        bound, fds = listening[key]
        by_source = vip.max_connections_per_source or vip.max_new_per_s_per_source
        pool = pool_of(old, vip, registry)
        slot = registry.take_vip(key, bool(by_source))
        blocks[key] = VipBlock(vip, pool, slot, (*bound, workers))
        if old is not None:
            set_listeners(vip, fds)
    for upstream in table.upstreams.values():
        key = upstream.key
        old = old_blocks.get(key)
        if old is not None and old.spec == upstream:
            blocks[key] = old
            continue
        pool = pool_of(old, upstream, registry)
        slot = registry.take_vip(key, False)
        blocks[key] = VipBlock(upstream, pool, slot, (registry.stamp(), workers))
    return blocks


cdef set _ports(dict listening):
    return {port for (_, port), _ in listening.values() if port}  # a path has none


cdef dict open_all(table, dict listening, int workers, sockets):
    opened = {}
    try:
        for key, vip in table.vips.items():
            if key in listening:
                continue
            if key in sockets:
                opened[key] = share_listeners(vip, sockets[key], workers)
            else:
                beside = vip.port in _ports(listening) or vip.port in _ports(opened)
                opened[key] = open_listeners(vip, workers, beside)
    except BaseException:
        for _, fds in opened.values():
            close_listeners(fds)
        raise
    return opened
