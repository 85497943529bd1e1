"""Deltas of Services, taken by the real core: it forwards, follows and forgets."""

from collections.abc import Iterator

import pytest

from pyproxy.dataplane import Change, Dataplane
from pyproxy.discovery.services import Delta, Settings
from tests.support.servers import EchoServer, free_port
from tests.support.services_rig import World, endpoint, port, service, slice_of
from tests.support.waiting import wait_until
from tests.test_dataplane import talk

pytestmark = pytest.mark.live

SETTINGS = Settings("here", node_ips=("127.0.55.1",), bind=True)
KEY = "ns/svc"


@pytest.fixture
def dataplane() -> Iterator[Dataplane]:
    """A core with one worker."""
    made = Dataplane.open(1)
    yield made
    made.close()


def change_of(delta: Delta) -> Change:
    """Return the core's part of a delta."""
    return Change(
        vips=delta.vips,
        pools=delta.pools,
        remove_vips=delta.remove_vips,
        remove_pools=delta.remove_pools,
    )


def test_a_service_is_forwarded_as_long_as_it_is_there(dataplane: Dataplane) -> None:
    world, number = World(SETTINGS, local=["127.0.55.1"]), free_port()
    address = ("127.0.55.2", number)
    made = service(KEY, address[0], port(number))
    with EchoServer() as first, EchoServer() as second:
        offered = [(("p80", each.address.port, "TCP"),) for each in (first, second)]
        here = slice_of(KEY, endpoint("127.0.0.1"), ports=offered[0])
        dataplane.update(change_of(world.put(made)))
        assert talk(address) == b""
        dataplane.update(change_of(world.put(here)))
        wait_until(lambda: talk(address) == b"word")
        there = slice_of(KEY, endpoint("127.0.0.1"), ports=offered[1])
        dataplane.update(change_of(world.put(there)))
        first.close()
        wait_until(lambda: talk(address) == b"word")
        dataplane.update(change_of(world.drop(made)))
        wait_until(lambda: talk(address) == b"")  # workers follow on their own
        assert not list(dataplane.vips)


def test_a_vip_whose_far_clients_have_no_endpoint(dataplane: Dataplane) -> None:
    # Its pool is empty, as near clients alone are let through to it.
    world, number = World(SETTINGS, local=["127.0.55.1"]), free_port()
    delta = world.put(
        service(
            *(KEY, "127.0.55.2", port(number, node_port=number)),
            type="NodePort",
            external_traffic_policy="Local",
        ),
        slice_of(KEY, endpoint("127.0.0.1", "there")),
    )
    assert [len(pool.backends) for pool in delta.pools] == [1, 0]
    dataplane.update(change_of(delta))
    assert len(dataplane.vips) == 2
    dataplane.update(change_of(world.drop(slice_of(KEY))))
    assert not list(dataplane.vips)
