"""A forwarding core for TCP, UDP and HTTP/1.1: tables in, bytes through, counters out.

::

    from fastpath import Backend, Engine, Pool, Table, Vip

    with Engine(workers=2) as engine:
        pool = Pool([Backend("127.0.0.1", 9000)], balance="least")
        engine.apply(Table([Vip("127.0.0.1", 7000, "tcp", pool)]))
        print(engine.stats().relays_active)

A vip with `http=Http(...)` speaks HTTP. For a request whose verdict is not remembered,
`engine.questions()` has a Question; `engine.answer(question, Forward("name"))` sends
it, and those like it, to the `Upstream` of that name: Python decides, the core
forwards.

The core knows sockets, pipes, TLS, HTTP framing, addresses and tables, and nothing of
asyncio, Kubernetes or configuration files. One OS thread per worker, which never takes
the GIL.
"""

from fastpath.api.errors import EngineError, TableError
from fastpath.api.policy import (
    Certificate,
    Failure,
    Forward,
    Http,
    Question,
    Quota,
    Reply,
    ResponseEdits,
)
from fastpath.api.snapshot import (
    BackendStats,
    Histogram,
    HttpStats,
    Notice,
    Stats,
    UdpStats,
    VerdictStats,
    VipStats,
    WorkerStats,
)
from fastpath.api.spec import Backend, Delta, Listener, Pool, Upstream, Vip
from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.engine import Engine
from fastpath.table.delta import Table

__all__ = [
    "Backend",
    "BackendStats",
    "Certificate",
    "ClientTls",
    "Delta",
    "Engine",
    "EngineError",
    "Failure",
    "Forward",
    "Histogram",
    "Http",
    "HttpStats",
    "Listener",
    "Notice",
    "Pool",
    "Question",
    "Quota",
    "Reply",
    "ResponseEdits",
    "ServerTls",
    "Stats",
    "Table",
    "TableError",
    "UdpStats",
    "Upstream",
    "VerdictStats",
    "Vip",
    "VipStats",
    "WorkerStats",
]
