"""A transparent listener of UDP: one socket takes the datagrams of many vips."""

import contextlib
from collections.abc import Iterator

import pytest

from fastpath import Backend, Delta, Engine, Listener, Pool, Table, Vip
from tests.core.engine.test_transparent import NETWORKS, client_namespace
from tests.support.leaks import Holdings, leaked_since
from tests.support.netns import NetNs
from tests.support.udp_tools import Client, named
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.netns, pytest.mark.root]


def vip(pattern: str, number: int, port: int, pool: Pool) -> Vip:
    """Return vip `number` of a network."""
    return Vip(pattern % (number + 1), port, "udp", pool, bind=False)


@contextlib.contextmanager
def pools(host: str, count: int) -> Iterator[list[Pool]]:
    """Pools of one backend each, that says its number."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(named(str(n), host)) for n in range(count)]
        yield [Pool([Backend(*one.address)]) for one in made]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("family", NETWORKS)
def test_each_vip_of_a_listener_reaches_its_own_backend(
    netns: NetNs, family: str, workers: int
) -> None:
    wildcard, network, pattern, loopback = NETWORKS[family]
    netns.run("ip", "route", "add", "local", network, "dev", "lo")
    before = Holdings.now()
    with netns.entered(), pools(loopback, 4) as each, Engine(workers) as engine:
        listener = Listener(wildcard, 8000, "udp")
        vips = [vip(pattern, n, 8000, pool) for n, pool in enumerate(each[:3])]
        engine.update(Delta(listeners=[listener], vips=vips), wait_s=5)
        with contextlib.ExitStack() as stack:
            for number, one in enumerate(vips):
                for _ in range(5):
                    # Connected: it takes datagrams of the vip's address alone.
                    client = stack.enter_context(Client((one.host, 8000)))
                    assert client.ask() == b"%d" % number
                    assert client.ask() == b"%d" % number
            stats = engine.stats()
            assert [stats.vips[one.key].accepted for one in vips] == [5, 5, 5]
            assert stats.no_vip == 0
        fourth = vip(pattern, 3, 8000, each[3])
        with Client((fourth.host, 8000)) as client:
            assert client.hears_nothing()
            wait_until(lambda: engine.stats().no_vip == 1)
            gone = vips[0].key
            engine.update(Delta(vips=[fourth], remove_vips=[gone]), wait_s=5)
            assert client.ask() == b"3"
        wait_until(lambda: engine.stats().flows_active == 11)
        with Client((vips[0].host, 8000)) as client:
            assert client.hears_nothing()
        engine.update(Delta(remove_listeners=[listener.key]), wait_s=5)
        wait_until(lambda: engine.stats().flows_active == 0)
    assert not leaked_since(before)


def test_tproxy_brings_datagrams_of_another_port(netns: NetNs) -> None:
    port = 8123
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(client_namespace(netns))
        netns.tproxy("udp dport 53", port)
        with netns.entered():
            each = stack.enter_context(pools("127.0.0.1", 2))
            engine = stack.enter_context(Engine(workers=2))
            vips = [vip("10.96.0.%d", n, 53, pool) for n, pool in enumerate(each)]
            listener = Listener("0.0.0.0", port, "udp")
            engine.update(Delta(listeners=[listener], vips=vips), wait_s=5)
        with theirs.entered():
            for number, one in enumerate(vips):
                for _ in range(4):
                    client = stack.enter_context(Client((one.host, 53)))
                    for _ in range(3):
                        assert client.ask() == b"%d" % number
            with Client(("10.96.7.7", 53)) as client:
                assert client.hears_nothing()
        wait_until(lambda: engine.stats().no_vip == 1)
        gone = Delta(vips=[Vip("10.96.0.2", 53, "udp", Pool([]), bind=False)])
        engine.update(gone, wait_s=5)
        with theirs.entered(), Client(("10.96.0.2", 53)) as client:
            assert client.hears_nothing()


def test_client_behind_tproxy_is_told_that_nobody_takes_its_datagram(
    netns: NetNs,
) -> None:
    netns.run("ip", "route", "add", "local", "10.96.0.0/16", "dev", "lo")
    with netns.entered(), Engine(1) as engine:
        pool = Pool([Backend("127.0.0.1", 9)])
        one = vip("10.96.0.%d", 1, 8000, pool)
        listener = Listener("0.0.0.0", 8000, "udp")
        engine.update(Delta(listeners=[listener], vips=[one]), wait_s=5)
        with Client((one.host, 8000)) as client:
            client.send(b"?")
            with pytest.raises(ConnectionRefusedError):
                client.receive()


def test_datagrams_with_trains_pass_a_link_that_has_a_small_mtu(netns: NetNs) -> None:
    # Trains of datagrams that do not fit the way are refused by the kernel: then they
    # go one by one, in fragments, as they would without us.
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(client_namespace(netns))
        netns.run("ip", "link", "set", "s0", "mtu", "1280")
        theirs.run("ip", "link", "set", "c0", "mtu", "1280")
        with theirs.entered():
            server = stack.enter_context(named("x", "10.0.9.2"))
        with netns.entered():
            engine = stack.enter_context(Engine(1))
            one = Vip("127.0.0.1", 0, "udp", Pool([Backend(*server.address)]))
            engine.apply(Table([one]))
            with Client(engine.address(one)) as client:
                for _ in range(2):
                    sent = [bytes([n]) * 2000 for n in range(10)]
                    client.send_train(sent)
                    for _ in sent:
                        assert client.receive() == b"x"
                assert [data for _, data in server.came] == 2 * sent
            udp = engine.stats().vips[one.key].udp
            assert udp is not None
            assert udp.trains_refused == 1, "once; then no train is tried"
            assert not any(udp.dropped.values())
