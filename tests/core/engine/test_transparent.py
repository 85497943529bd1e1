"""A transparent listener: one socket takes the clients of many vips."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastpath import Backend, Delta, Engine, Listener, Pool, Vip
from tests.support.netns import NetNs
from tests.support.servers import Address, ScriptedServer
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.root]

NETWORKS = {
    "ipv4": ("0.0.0.0", "10.96.0.0/16", "10.96.0.%d", "127.0.0.1"),
    "ipv6": ("::", "fd96::/64", "fd96::%d", "::1"),
}


def said(address: tuple[str, int]) -> bytes:
    """What a client at `address` is told; nothing if it is reset."""
    try:
        with socket.create_connection(address, scaled(5)) as client:
            client.settimeout(scaled(5))
            return client.recv(10)
    except ConnectionResetError:
        return b""


def server(name: bytes, host: str) -> ScriptedServer:
    """A backend that says its name."""
    return ScriptedServer(lambda client: client.sendall(name), host=host)


@contextlib.contextmanager
def backends(host: str, count: int) -> Iterator[list[Pool]]:
    """Pools of one backend each, that says its number."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(b"%d" % n, host)) for n in range(count)]
        yield [Pool((Backend(*one.address),)) for one in servers]


def vip(pattern: str, number: int, port: int, pool: Pool, **options: Any) -> Vip:
    """Return vip `number` of a network."""
    return Vip(pattern % (number + 1), port, "tcp", pool, bind=False, **options)


@pytest.mark.parametrize("family", NETWORKS)
def test_each_vip_of_a_listener_reaches_its_own_backend(
    netns: NetNs, family: str
) -> None:
    wildcard, network, pattern, loopback = NETWORKS[family]
    netns.run("ip", "route", "add", "local", network, "dev", "lo")
    with netns.entered(), backends(loopback, 4) as pools, Engine(workers=2) as engine:
        listener = Listener(wildcard, 8000)
        vips = [vip(pattern, n, 8000, pool) for n, pool in enumerate(pools[:3])]
        engine.update(Delta(listeners=[listener], vips=vips), wait_s=5)
        for number, one in enumerate(vips):
            for _ in range(5):
                assert said((one.host, 8000)) == b"%d" % number
        stats = engine.stats()
        assert [stats.vips[one.key].accepted for one in vips] == [5, 5, 5]
        assert stats.no_vip == 0
        fourth = vip(pattern, 3, 8000, pools[3])
        assert said((fourth.host, 8000)) == b""
        wait_until(lambda: engine.stats().no_vip == 1)
        engine.update(Delta(vips=[fourth], remove_vips=[vips[0].key]), wait_s=5)
        assert said((fourth.host, 8000)) == b"3"
        assert said((vips[0].host, 8000)) == b""
        assert engine.stats().no_vip == 2
        engine.update(Delta(remove_listeners=[listener.key]), wait_s=5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((fourth.host, 8000), scaled(5))


@contextlib.contextmanager
def client_namespace(ours: NetNs) -> Iterator[NetNs]:
    """Another namespace, whose way to 10.96.0.0/16 leads through ours."""
    theirs = NetNs()
    try:
        veth = ["type", "veth", "peer", "name", "c0", "netns", theirs.name]
        ours.run("ip", "link", "add", "s0", *veth)
        for namespace, name, host in ((ours, "s0", 1), (theirs, "c0", 2)):
            namespace.run("ip", "addr", "add", f"10.0.9.{host}/24", "dev", name)
            namespace.run("ip", "link", "set", name, "up")
        theirs.run("ip", "route", "add", "10.96.0.0/16", "via", "10.0.9.1")
        yield theirs
    finally:
        theirs.close()


def test_tproxy_brings_clients_of_another_port(netns: NetNs) -> None:
    port = 8123
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(client_namespace(netns))
        netns.tproxy("tcp dport 80", port)
        with netns.entered():
            pools = stack.enter_context(backends("127.0.0.1", 2))
            engine = stack.enter_context(Engine(workers=2))
            vips = [vip("10.96.0.%d", n, 80, pool) for n, pool in enumerate(pools)]
            listener = Listener("0.0.0.0", port)
            engine.update(Delta(listeners=[listener], vips=vips), wait_s=5)
        with theirs.entered():
            for number, one in enumerate(vips):
                assert said((one.host, 80)) == b"%d" % number
            assert said(Address("10.96.7.7", 80)) == b""
        wait_until(lambda: engine.stats().no_vip == 1)
