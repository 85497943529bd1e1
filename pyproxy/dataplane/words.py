"""Our model in the core's words."""

from collections.abc import Sequence
from dataclasses import dataclass

import fastpath
from fastpath.api.policy import Http
from fastpath.api.spec import Listener, Upstream
from fastpath.api.spec import Pool as UpstreamPool
from fastpath.api.tlsspec import ClientTls, ServerTls
from pyproxy.errors import ConfigError
from pyproxy.model import Pool, Vip, VipKey


@dataclass(frozen=True, slots=True)
class Change:
    """What changes in the table. Vips name their pools by `Pool.name`."""

    vips: Sequence[Vip] = ()  # appear, or replace those of their keys
    pools: Sequence[Pool] = ()  # likewise, by name
    upstreams: Sequence[Upstream] = ()
    listeners: Sequence[Listener] = ()  # transparent ones
    remove_vips: Sequence[VipKey] = ()
    remove_pools: Sequence[str] = ()
    remove_upstreams: Sequence[str] = ()
    remove_listeners: Sequence[VipKey] = ()


def delta_of(change: Change) -> fastpath.Delta:
    """Return it in the core's words. Raise ConfigError or TableError."""
    return fastpath.Delta(
        vips=[_vip(vip) for vip in change.vips],
        pools={pool.name: _pool(pool) for pool in change.pools},
        upstreams=change.upstreams,
        listeners=change.listeners,
        remove_vips=change.remove_vips,
        remove_pools=change.remove_pools,
        remove_upstreams=change.remove_upstreams,
        remove_listeners=change.remove_listeners,
    )


def _vip(vip: Vip) -> fastpath.Vip:
    if not isinstance(vip.http, Http | None):
        raise ConfigError(f"{vip.host}: {vip.http!r} is no Http")
    if not isinstance(vip.tls, ServerTls | None):
        raise ConfigError(f"{vip.host}: what it has for TLS is no ServerTls")
    return fastpath.Vip(
        vip.host,
        vip.port,
        vip.protocol,
        vip.pool.name,
        bind=vip.bind,
        near=vip.near,
        near_pool=None if vip.near_pool is None else vip.near_pool.name,
        keep_source=vip.keep_source,
        idle_timeout_s=vip.idle_timeout_s,
        udp_one_way_s=vip.udp_one_way_s,
        udp_two_way_s=vip.udp_two_way_s,
        max_connections=vip.limits.max_connections,
        max_connections_per_source=vip.limits.max_connections_per_source,
        max_new_per_s=vip.limits.max_new_per_s,
        max_new_per_s_per_source=vip.limits.max_new_per_s_per_source,
        keepalive_s=vip.keepalive_s,
        # A client that reads a watch slowly is not gone: keepalive tells the two apart.
        user_timeout_s=0.0 if vip.http is not None else 30.0,
        http=vip.http,
        tls=vip.tls,
        proxy_protocol_from=vip.proxy_protocol_from,
        client_first=vip.client_first,
    )


def _pool(pool: Pool) -> fastpath.Pool:
    return fastpath.Pool(
        tuple(
            fastpath.Backend(b.host, b.port, weight=b.weight, tier=b.tier)
            for b in pool.backends
        ),
        balance=pool.balance,
        ring_key=pool.ring_key,
        on_all_down=pool.on_all_down,
        connect_timeout_s=pool.connect_timeout_s,
        slow_start_s=pool.slow_start_s,
        affinity_s=pool.affinity_s,
    )


def pools_of(vip: Vip) -> tuple[Pool, ...]:
    """Return its pool, and that of near clients if they have one."""
    return (vip.pool,) if vip.near_pool is None else (vip.pool, vip.near_pool)


def pool_of(upstream: Upstream) -> UpstreamPool:
    """Return the pool of an upstream of `upstream_of`, which has it to itself."""
    assert isinstance(upstream.pool, UpstreamPool)
    return upstream.pool


def upstream_of(pool: Pool, tls: ClientTls | None) -> Upstream:
    """Return a place that verdicts may name, by the name of its pool."""
    return Upstream(pool.name, _pool(pool), tls)
