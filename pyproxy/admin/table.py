"""What is forwarded where and why, as plain data for `/debug/table`."""

import time
from collections.abc import Mapping

from pyproxy.dataplane import (
    BackendStats,
    Dataplane,
    Histogram,
    Stats,
    UpstreamBackend,
    UpstreamPool,
    pool_of,
)
from pyproxy.model import Backend, Key, Pool, format_address
from pyproxy.probe import Watched, down_for_s


def describe(
    mode: str, dataplane: Dataplane, watched: Mapping[Key, Watched]
) -> dict[str, object]:
    """Return generation, vips, pools and backends as they are now."""
    stats = dataplane.stats()
    # Requests go where verdicts say: the pool of an HTTP listener is not used.
    pools = {vip.pool.name: vip.pool for vip in dataplane.vips if vip.http is None}
    servers = [_pool(name, pool, stats, watched) for name, pool in pools.items()]
    servers += [_pool(up.name, pool_of(up), stats, {}) for up in dataplane.upstreams]
    return {
        "mode": mode,
        "time": round(time.time(), 3),
        "generation": stats.generation,
        "relaysActive": stats.relays_active,
        "workers": dataplane.workers,
        "vips": _vips(dataplane, stats),
        "pools": servers,
    }


def _vips(dataplane: Dataplane, stats: Stats) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for vip in dataplane.vips:
        counted = stats.vips.get(vip.key)
        entry: dict[str, object] = {
            "address": format_address(*dataplane.address(vip.key)),
            "pool": vip.pool.name,
            "limit": vip.limits.max_connections or None,
        }
        if counted is not None:
            entry |= {
                "active": counted.active,
                "accepted": counted.accepted,
                "refused": {k: v for k, v in counted.refused.items() if v},
                "closed": {k: v for k, v in counted.closed.items() if v},
                "bytesUp": counted.bytes_up,
                "bytesDown": counted.bytes_down,
                "retries": counted.retries,
            }
        entries.append(entry)
    return entries


def _pool(
    name: str,
    pool: Pool | UpstreamPool,
    stats: Stats,
    watched: Mapping[Key, Watched],
) -> dict[str, object]:
    return {
        "name": name,
        "balance": pool.balance,
        "onAllDown": pool.on_all_down,
        "backends": [
            _backend(b, stats.backends.get(b.key), watched.get(b.key))
            for b in pool.backends
        ],
    }


def _backend(
    backend: Backend | UpstreamBackend,
    counted: BackendStats | None,
    watched: Watched | None,
) -> dict[str, object]:
    entry: dict[str, object] = {
        "address": format_address(*backend.key),
        "name": backend.name if isinstance(backend, Backend) else "",
        "weight": backend.weight,
        "tier": backend.tier,
    }
    if watched is not None:
        entry |= {
            "state": str(watched.state.state),
            "since": round(watched.since_s, 3),
            "suspect": watched.state.suspect,
            "downs": watched.downs,
            "downForS": round(down_for_s(watched, time.time()), 3),
        }
        if watched.last is not None:
            entry |= {
                "why": watched.last.why,
                "lastProbe": {
                    "result": str(watched.last.result),
                    "at": round(watched.last_at_s, 3),
                    "tookMs": round(watched.last.took_s * 1000, 2),
                },
            }
    if counted is not None:
        entry |= {
            "health": counted.health,
            "ejected": counted.ejected,
            "active": counted.active,
            "connects": counted.connects,
            "connectFailures": counted.connect_failures,
            "ejections": counted.ejections,
            "connectP50Ms": quantile_ms(counted.connect_time, 0.5),
            "connectP99Ms": quantile_ms(counted.connect_time, 0.99),
            "bytesUp": counted.bytes_up,
            "bytesDown": counted.bytes_down,
        }
    return entry


def quantile_ms(times: Histogram, part: float) -> float | None:
    """Return below which time so large a part of the values is, None if there is none.

    It is the upper bound of a bucket, of which there are two an octave; what is beyond
    the last one is told as that one.
    """
    wanted = part * sum(times.counts)
    if not wanted:
        return None
    total = 0
    for bound_us, count in zip(times.bounds_us, times.counts, strict=False):
        total += count
        if total >= wanted:
            return round(bound_us / 1000, 3)
    return round(times.bounds_us[-1] / 1000, 3)
