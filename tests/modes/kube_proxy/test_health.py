"""What load balancers are told. Source: k/k pkg/proxy/healthcheck/healthcheck_test.go.

The tables of upstream are restated; ports and clients are real.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from pyproxy.kube.machines import Node, NodeSpec, Taint
from pyproxy.kube.objects import ObjectMeta
from pyproxy.modes.kube_proxy.doors import HealthDoor, HealthPorts, listen
from pyproxy.modes.kube_proxy.health import ProxyHealth, service_answer
from tests.support.servers import free_port
from tests.support.waiting import scaled

HOSTS = ("127.0.0.1",)
TIMEOUT_S = 60.0


class Clock:
    """Both clocks."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def now(self) -> float:
        """Of the process."""
        return self.now_s

    def wall(self) -> float:
        """On the wall."""
        return self.now_s + 1_700_000_000


def made() -> tuple[ProxyHealth, Clock]:
    """Health of a proxy that has just started, and its clock."""
    clock = Clock()
    return ProxyHealth(TIMEOUT_S, clock.now, clock.wall), clock


def statuses(health: ProxyHealth) -> tuple[int, int]:
    """Of /healthz and /livez."""
    return health.healthz().status, health.livez().status


def node(*, taints: tuple[str, ...] = (), deleted: bool = False) -> Node:
    """A Node as the autoscaler or a person left it."""
    moment = "2026-01-01T00:00:00Z" if deleted else None
    return Node(
        metadata=ObjectMeta(name="n", deletion_timestamp=moment),
        spec=NodeSpec(taints=tuple(Taint(key=key) for key in taints)),
    )


def test_health_is_good_until_a_change_waits_for_too_long() -> None:
    # testHTTPHandler of upstream: start, update, queued, late, updated.
    health, clock = made()
    assert statuses(health) == (200, 200)
    clock.now_s += 10 * TIMEOUT_S  # nothing waits
    assert statuses(health) == (200, 200)
    health.updated()
    assert statuses(health) == (200, 200)
    health.queued()
    clock.now_s += TIMEOUT_S - 1
    assert statuses(health) == (200, 200)
    health.queued()  # the oldest one counts
    clock.now_s += 1
    assert statuses(health) == (503, 503)
    health.updated()
    assert statuses(health) == (200, 200)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (node(), (200, 200)),
        (node(taints=("other",)), (200, 200)),
        (node(taints=("other", "ToBeDeletedByClusterAutoscaler")), (503, 200)),
        (node(deleted=True), (503, 200)),
    ],
    ids=["plain", "other taint", "to be deleted", "deleted"],
)
def test_node_that_is_to_go_is_red_for_healthz_alone(
    seen: Node, expected: tuple[int, int]
) -> None:
    health, _ = made()
    health.see_node(seen)
    assert statuses(health) == expected
    health.see_node(node())
    assert statuses(health) == (200, 200)


def test_body_says_when_and_whether_the_node_is_eligible() -> None:
    health, clock = made()
    body = json.loads(health.healthz().body)
    assert list(body) == ["lastUpdated", "currentTime", "nodeEligible"]
    assert body["lastUpdated"] == body["currentTime"]  # recent, while all is well
    assert body["nodeEligible"] is True
    assert list(json.loads(health.livez().body)) == ["lastUpdated", "currentTime"]
    health.queued()
    clock.now_s += TIMEOUT_S
    late = json.loads(health.healthz().body)
    assert late["lastUpdated"] == "0001-01-01 00:00:00 +0000 UTC"  # never
    assert late["currentTime"] == "2023-11-14 22:31:00.000000 +0000 UTC"


@pytest.mark.parametrize(
    ("count", "live", "status"),
    [(0, True, 503), (1, True, 200), (18, True, 200), (0, False, 503), (7, False, 503)],
)
def test_service_is_good_with_endpoints_here_and_a_live_proxy(
    count: int, live: bool, status: int
) -> None:
    answer = service_answer("mz/nm", count, proxy_is_live=live)
    assert answer.status == status
    assert dict(answer.headers) == {"X-Load-Balancing-Endpoint-Weight": str(count)}
    assert json.loads(answer.body) == {
        "service": {"namespace": "mz", "name": "nm"},
        "localEndpoints": count,
        "serviceProxyHealthy": live,
    }


class Port(NamedTuple):
    """What is asked about a Service."""

    port: int
    endpoints: int


class Desk:
    """Health ports on loopback, and what was said about them."""

    def __init__(self) -> None:
        self.live = True
        self.failed: list[tuple[str, str]] = []
        self.ports = HealthPorts(
            lambda: self.live, listen, lambda key, why: self.failed.append((key, why))
        )

    async def set(self, hosts: tuple[str, ...] = HOSTS, **want: Any) -> None:
        """Change what is wanted: `a_b=(port, count)`, None = no more."""
        self.ports.want(
            {key.replace("_", "/"): each and Port(*each) for key, each in want.items()}
        )
        await self.ports.follow(hosts)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """It is closed in the end."""
    made = Desk()
    await made.ports.start()
    yield made
    await made.ports.close()


async def ask(port: int, path: str = "/", host: str = HOSTS[0]) -> tuple[int, Any, str]:
    """Status, body and weight."""
    timeout = aiohttp.ClientTimeout(scaled(5))
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://{host}:{port}{path}") as answer,
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        weight = answer.headers.get("X-Load-Balancing-Endpoint-Weight", "")
        return answer.status, await answer.json(), weight


async def is_closed(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        _, writer = await asyncio.open_connection(HOSTS[0], port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.live
async def test_health_ports_follow_services_and_endpoints(desk: Desk) -> None:
    # TestServer of upstream: open, count, move, close.
    one, other = free_port(), free_port()
    await desk.set(a_b=(one, 0))
    status, body, weight = await ask(one)
    assert (status, body["localEndpoints"], weight) == (503, 0, "0")
    await desk.set(a_b=(one, 18), c_d=(other, 1))
    assert (await ask(one, "/any/path"))[0] == 200
    assert (await ask(one))[2] == "18"
    assert (await ask(other))[1]["service"] == {"namespace": "c", "name": "d"}
    desk.live = False
    status, body, _ = await ask(one)
    assert (status, body["serviceProxyHealthy"]) == (503, False)
    desk.live = True
    moved = free_port()
    await desk.set(a_b=(moved, 2))
    assert await is_closed(one)
    assert (await ask(moved))[2] == "2"
    await desk.set(a_b=None, c_d=None)
    assert await is_closed(moved)
    assert await is_closed(other)
    assert desk.ports.ports == {}
    assert desk.failed == []


@pytest.mark.live
async def test_port_that_is_taken_is_said_once_and_tried_again(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await desk.set(a_b=(port, 1))
        await desk.set()
        ((key, why),) = desk.failed
        assert key == "a/b"
        assert why.startswith(f"port {port}: ")
    await desk.set()
    assert (await ask(port))[0] == 200


@pytest.mark.live
async def test_port_passes_from_one_service_to_another(desk: Desk) -> None:
    port = free_port()
    await desk.set(a_b=(port, 1))
    await desk.set(a_b=None, c_d=(port, 1))
    assert (await ask(port))[1]["service"] == {"namespace": "c", "name": "d"}
    assert desk.failed == []


@pytest.mark.live
async def test_ports_move_with_the_addresses_of_the_node(desk: Desk) -> None:
    port = free_port()
    await desk.set(hosts=("127.0.0.1", "127.0.0.2"), a_b=(port, 1))
    assert (await ask(port, host="127.0.0.2"))[0] == 200
    await desk.set(hosts=("127.0.0.2",))
    assert await is_closed(port)
    assert (await ask(port, host="127.0.0.2"))[0] == 200


@pytest.mark.live
async def test_one_address_that_is_not_here_opens_none(desk: Desk) -> None:
    # 192.0.2.1 is of no machine (RFC 5737).
    port = free_port()
    await desk.set(hosts=("127.0.0.1", "192.0.2.1"), a_b=(port, 1))
    assert await is_closed(port)
    assert [key for key, _ in desk.failed] == ["a/b"]


@pytest.mark.live
async def test_healthz_and_livez_are_served_and_counted() -> None:
    health, _ = made()
    noted: list[tuple[str, int]] = []
    door = HealthDoor(health, lambda name, status: noted.append((name, status)))
    await door.start()
    port = free_port()
    await door.serve(listen("127.0.0.1", port))
    try:
        health.see_node(node(deleted=True))
        assert (await ask(port, "/healthz"))[0] == 503
        assert (await ask(port, "/livez"))[0] == 200
        assert (await ask(port, "/other"))[0] == 404
        assert noted == [("healthz", 503), ("livez", 200)]
    finally:
        await door.close()
