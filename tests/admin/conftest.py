"""An admin address over a real core."""

from collections.abc import AsyncIterator

import pytest

from pyproxy.admin import Admin, Collector, Health, History, Sources, describe
from pyproxy.dataplane import Dataplane
from pyproxy.model import Backend, Pool, Vip
from pyproxy.probe import Result
from tests.support.admin_rig import DEAD, Office, watch
from tests.support.servers import EchoServer


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    """An admin address over a core with one echo server and one dead backend."""
    with EchoServer() as server:
        dataplane = Dataplane.open(1)
        backends = (Backend(*server.address), Backend(*DEAD, name="kube-9"))
        vip = Vip("127.0.0.1", 0, Pool("main", backends))
        dataplane.apply([vip])
        health = Health()
        collector = Collector("apiserver-lb", lambda: dataplane)
        watched = {
            server.address: watch(server.address, Result.READY),
            DEAD: watch(DEAD, Result.DEAD),
        }
        collector.states = lambda: {k: w.state.state for k, w in watched.items()}
        table = lambda: describe("apiserver-lb", dataplane, watched)  # noqa: E731
        history = History()
        admin = Admin(
            Sources(health, [collector], table, lambda: {"workers": 1}, history)
        )
        where = await admin.open("127.0.0.1:0")
        yield Office(where, health, dataplane, collector, history, watched)
        await admin.close()
        dataplane.close()
