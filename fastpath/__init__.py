"""A forwarding core for TCP: tables in, bytes through, counters out.

::

    from fastpath import Backend, Engine, Pool, Table, Vip

    with Engine(workers=2) as engine:
        pool = Pool([Backend("127.0.0.1", 9000)], balance="least")
        engine.apply(Table([Vip("127.0.0.1", 7000, "tcp", pool)]))
        print(engine.stats().relays_active)

It knows sockets, pipes, addresses and tables, and nothing of asyncio, Kubernetes or
configuration files. One OS thread per worker, which never takes the GIL.
"""

from fastpath.engine import Engine
from fastpath.errors import EngineError, TableError
from fastpath.snapshot import (
    BackendStats,
    Histogram,
    Notice,
    Stats,
    VipStats,
    WorkerStats,
)
from fastpath.spec import Backend, Pool, Vip
from fastpath.table import Table

__all__ = [
    "Backend",
    "BackendStats",
    "Engine",
    "EngineError",
    "Histogram",
    "Notice",
    "Pool",
    "Stats",
    "Table",
    "TableError",
    "Vip",
    "VipStats",
    "WorkerStats",
]
