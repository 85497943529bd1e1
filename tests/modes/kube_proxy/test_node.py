"""Which node this is: its addresses, and waiting for its Node."""

import asyncio
import ipaddress
import socket

import pytest

from pyproxy.errors import StartError
from pyproxy.kube.machines import Node, NodeAddress, NodeStatus
from pyproxy.kube.objects import ObjectMeta
from pyproxy.kube.store import Store
from pyproxy.modes.kube_proxy.node import Arrival, has_addresses, local_addresses


def node(*addresses: tuple[str, str], name: str = "n") -> Node:
    """A Node with addresses, each with its type."""
    found = tuple(NodeAddress(type=kind, address=text) for kind, text in addresses)
    return Node(metadata=ObjectMeta(name=name), status=NodeStatus(addresses=found))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, False),
        (node(), False),
        (node(("Hostname", "10.0.0.1")), False),
        (node(("InternalIP", "n.local")), False),
        (node(("InternalIP", "fd00::1")), True),
        (node(("Hostname", "n"), ("ExternalIP", "1.2.3.4")), True),
    ],
)
def test_node_has_addresses_when_one_can_be_dialled(
    found: Node | None, expected: bool
) -> None:
    assert has_addresses(found) == expected


def test_addresses_of_this_machine_can_be_bound() -> None:
    found = local_addresses()
    assert "127.0.0.1" in found
    for each in found:
        family = socket.AF_INET6 if ":" in each else socket.AF_INET
        assert not ipaddress.ip_address(each).is_link_local
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((each, 0))


async def test_wait_for_the_node_ends_when_it_has_an_address() -> None:
    nodes: Store[Node] = Store()
    arrival = Arrival()
    nodes.add_handler(arrival)
    waiting = asyncio.create_task(arrival.of("n", nodes, 60.0))
    await asyncio.sleep(0)
    nodes.upsert(node(("InternalIP", "10.0.0.1"), name="other"))
    nodes.upsert(node(name="n"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    nodes.upsert(node(("InternalIP", "10.0.0.1")))
    await asyncio.wait_for(waiting, 10)


async def test_node_that_never_comes_ends_the_start_and_says_what_to_do() -> None:
    with pytest.raises(StartError, match=r"no Node 'n' after 0\.01 s; .*--hostname-ov"):
        await Arrival().of("n", Store(), 0.01)


async def test_node_without_an_address_is_taken_in_the_end() -> None:
    nodes: Store[Node] = Store()
    nodes.upsert(node())
    await Arrival().of("n", nodes, 0.01)
