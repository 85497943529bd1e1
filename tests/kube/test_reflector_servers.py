"""A reflector against API servers in processes: killed, paused, with history forgotten.

The same tests hold for the sandbox's server and for a real kube-apiserver, where there
is one; only the real one keeps what it had when it is started anew.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pyproxy.kube.client import Client
from pyproxy.kube.objects import ObjectMeta, Service, ServicePort, ServiceSpec
from pyproxy.kube.reflector import Reflector, Timing
from pyproxy.kube.resource import (
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    SERVICE_CIDRS,
    SERVICES,
    Resource,
)
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection
from tests.support import realcluster
from tests.support.kube_following import Notes
from tests.support.kube_keeper import Kept
from tests.support.kube_sandbox import wire_of
from tests.support.kube_server import until

pytestmark = [pytest.mark.adversity, pytest.mark.slow, pytest.mark.timeout(180)]

SPACE = "default"
QUICK = Timing(quiet_s=2.0, healthy_s=0.5, settled_s=0.1)


@pytest.fixture(
    scope="module",
    params=["sandbox", pytest.param("real", marks=pytest.mark.cluster)],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """Each of them, for all tests."""
    if request.param == "real" and (obstacle := realcluster.obstacle()):
        pytest.skip(obstacle)
    with Kept(request.param, tmp_path_factory.mktemp(request.param)) as kept:
        yield kept


@asynccontextmanager
async def followed(
    server: Kept, labels: str, timing: Timing = QUICK, *, streams: bool = True
) -> AsyncIterator[tuple[Client, Store[Service], Notes]]:
    """Follow the Services with these labels."""
    wire = wire_of(server.url, server.ca)
    store, notes = Store[Service](), Notes()
    store.add_handler(notes)
    selection = Selection(SERVICES, SPACE, labels)
    reflector = Reflector(wire, selection, store, timing=timing)
    reflector._streams_lists = streams
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(store.wait_synced(), 30)
        yield Client(wire), store, notes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await wire.close()


def named(name: str, run: str) -> Service:
    """Return a Service to create."""
    return Service(
        metadata=ObjectMeta(name=name, namespace=SPACE, labels={"run": run}),
        spec=ServiceSpec(ports=(ServicePort(port=80),)),
    )


@pytest.fixture
def run_name() -> str:
    """A label that no other test uses."""
    return f"r{random.randrange(1 << 40):x}"


@pytest.mark.parametrize("streams", [True, False], ids=["streaming", "pages"])
async def test_store_follows_what_others_do(
    server: Kept, run_name: str, streams: bool
) -> None:
    a, b = f"{run_name}-a", f"{run_name}-b"
    async with followed(server, f"run={run_name}", Timing(page=1), streams=streams) as (
        client,
        store,
        notes,
    ):
        await client.create(SERVICES, named(a, run_name))
        await client.create(SERVICES, named(b, run_name))
        await until(lambda: notes.lines == ["synced", f"+{a}", f"+{b}"])
        # What leaves the selection is gone, and what comes into it is new.
        moved: dict[str, Any] = {"metadata": {"labels": {"run": "other"}}}
        await client.patch(SERVICES, f"{SPACE}/{a}", moved)
        await until(lambda: notes.lines[3:] == [f"-{a}"])
        moved["metadata"]["labels"]["run"] = run_name
        await client.patch(SERVICES, f"{SPACE}/{a}", moved)
        await client.delete(SERVICES, f"{SPACE}/{b}")
        await until(lambda: notes.lines[4:] == [f"+{a}", f"-{b}"])
        listed = await client.list(SERVICES, SPACE, labels=f"run={run_name}")
        assert {each.key: each for each in listed} == dict(store.objects)
        await client.delete(SERVICES, f"{SPACE}/{a}")


async def test_server_that_is_paused_is_waited_for(server: Kept, run_name: str) -> None:
    name = f"{run_name}-a"
    async with followed(server, f"run={run_name}") as (client, _, notes):
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(3)  # longer than a watch may be silent here
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await client.create(SERVICES, named(name, run_name))
        await until(lambda: notes.lines == ["synced", f"+{name}"], 60)
        await client.delete(SERVICES, f"{SPACE}/{name}")
        await until(lambda: notes.lines[2:] == [f"-{name}"], 60)


@pytest.mark.parametrize("forgets", [False, True], ids=["killed", "compacted"])
async def test_server_that_is_killed_is_followed_again(
    server: Kept, run_name: str, forgets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyproxy.kube")
    a, b, other = (f"{run_name}-{letter}" for letter in "abo")
    async with followed(server, f"run={run_name}") as (client, store, notes):
        await client.create(SERVICES, named(a, run_name))
        await until(lambda: f"{SPACE}/{a}" in store.objects)
        # History goes on, of what we do not watch: our version will be too old.
        await client.create(SERVICES, named(other, other))
        await client.delete(SERVICES, f"{SPACE}/{other}")
        await asyncio.to_thread(server.restart, forgets=forgets)
        await client.create(SERVICES, named(b, run_name))
        await until(lambda: f"{SPACE}/{b}" in store.objects, 90)
        # Nothing was told of what stayed; another cluster does not have it.
        expected = [f"+{b}"] if server.kind == "real" else [f"+{b}", f"-{a}"]
        await until(lambda: len(notes.lines) >= 2 + len(expected), 30)
        assert notes.lines == ["synced", f"+{a}", *expected]
        if forgets and server.kind == "real":
            assert "history forgotten, listing anew" in caplog.messages
        for each in list(store.objects):
            await client.delete(SERVICES, each)


KINDS: tuple[Resource[Any], ...] = (
    *(SERVICES, ENDPOINT_SLICES, NODES, PODS, SERVICE_CIDRS, LEASES, EVENTS),
)


@pytest.mark.parametrize("streams", [True, False], ids=["streaming", "pages"])
async def test_every_kind_is_listed(server: Kept, streams: bool) -> None:
    wire = wire_of(server.url, server.ca)
    for resource in KINDS:
        if resource is SERVICE_CIDRS and server.kind != "real":
            continue  # the sandbox has none
        store: Store[Any] = Store()
        reflector = Reflector(wire, Selection(resource), store)
        reflector._streams_lists = streams
        task = asyncio.create_task(reflector.run())
        await asyncio.wait_for(store.wait_synced(), 30)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        listed = {each.key for each in await Client(wire).list(resource)}
        assert listed == set(store.objects)
    await wire.close()
