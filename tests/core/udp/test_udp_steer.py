"""Backends that go, die or refuse: flows go on with others."""

import pytest

from fastpath import Notice
from tests.support.udp_tools import (
    UdpProxy,
    UdpServer,
    bound,
    closed_port,
    named,
    servers,
)
from tests.support.waiting import wait_until


def test_flow_keeps_its_backend_while_others_come() -> None:
    with servers("a", "b", "c") as (one, two, three):
        with UdpProxy(one.address, two.address) as proxy, proxy.client() as client:
            said = client.ask()
            proxy.serve(one.address, two.address, three.address)
            assert {client.ask() for _ in range(20)} == {said}
            assert proxy.udp.resteered == 0


@pytest.mark.parametrize("how", ["removed", "dead", "reset"])
def test_next_datagram_goes_to_another_backend(how: str) -> None:
    with servers("a", "b") as (one, two):
        with UdpProxy(one.address) as proxy, proxy.client() as client:
            assert client.ask() == b"a"
            if how == "removed":
                proxy.serve(two.address)
            else:
                proxy.serve(one.address, two.address)
                assert client.ask() == b"a"
                proxy.engine.set_health(one.address, "dead")
            if how == "reset":
                proxy.engine.reset(one.address)
                wait_until(lambda: proxy.active(one.address) == 0)
            assert client.ask() == b"b"
            assert proxy.udp.resteered == 1
            assert proxy.stats.accepted == 1
            assert proxy.dropped == {}
            assert proxy.active(two.address) == 1


def test_draining_backend_keeps_its_flows() -> None:
    with servers("a", "b") as (one, two):
        with UdpProxy(one.address) as proxy, proxy.client() as client:
            assert client.ask() == b"a"
            proxy.serve(one.address, two.address)
            proxy.engine.drain(one.address)
            assert client.ask() == b"a"
            with proxy.client() as other:
                assert {other.ask() for _ in range(5)} == {b"b"}


def test_backend_that_is_removed_may_still_answer() -> None:
    with servers("a") as (other,), bound("127.0.0.1") as backend:
        with UdpProxy(backend.getsockname()) as proxy, proxy.client() as client:
            client.send(b"?")
            _, upstream = backend.recvfrom(10)
            proxy.serve(other.address)
            backend.sendto(b"late", upstream)
            assert client.receive() == b"late"
            assert client.ask() == b"a"


def test_no_backends_drop_and_count_until_one_comes() -> None:
    with named("a") as server, UdpProxy(server.address) as proxy:
        with proxy.client() as client:
            assert client.ask() == b"a"
            proxy.serve()
            assert client.hears_nothing()
            assert client.hears_nothing()
            assert proxy.dropped == {"no_backend": 2}
            assert proxy.all_stats.flows_active == 0
            proxy.serve(server.address)
            assert client.ask() == b"a"


def test_closed_port_costs_no_datagram_while_another_backend_is_there() -> None:
    gone = closed_port()
    with named("a") as server:
        pool = {"balance": "round-robin", "eject_after": 0}
        with UdpProxy(gone, server.address, pool=pool) as proxy:
            for _ in range(10):
                with proxy.client() as client:
                    assert client.ask() == b"a"
            backend = proxy.all_stats.backends[gone]
            assert backend.connect_failures > 0
            assert backend.active == 0
            assert proxy.stats.retries == backend.connect_failures
            assert proxy.dropped == {}


def test_backend_that_refuses_is_ejected_and_told() -> None:
    gone = closed_port()
    with named("a") as server:
        pool = {"balance": "round-robin", "eject_after": 2, "eject_s": 60}
        with UdpProxy(gone, server.address, pool=pool) as proxy:
            for _ in range(10):
                with proxy.client() as client:
                    assert client.ask() == b"a"
            assert proxy.all_stats.backends[gone].ejected
            assert proxy.all_stats.backends[gone].connect_failures == 2
            assert Notice("ejected", gone) in proxy.engine.notices()


def test_flow_moves_when_its_backend_closes_its_port() -> None:
    with named("b") as other:
        one = named("a")
        with UdpProxy(one.address) as proxy, proxy.client() as client:
            assert client.ask() == b"a"
            proxy.serve(one.address, other.address)
            one.close()
            client.send(b"lost, and found out by that")
            wait_until(lambda: proxy.all_stats.backends[one.address].connect_failures)
            assert client.ask() == b"b"
            assert proxy.udp.resteered == 1


def test_datagrams_sent_at_once_to_a_closed_port_all_arrive_elsewhere() -> None:
    gone = closed_port()
    with UdpServer() as server:
        pool = {"balance": "round-robin", "eject_after": 0}
        with UdpProxy(gone, server.address, pool=pool) as proxy:
            with proxy.client() as client:
                client.send_train([b"%04d" % n for n in range(30)])
                wait_until(lambda: len(server.came) >= 30)
                with proxy.client() as second:  # meets the other one first
                    second.send_train([b"%04d" % n for n in range(30)])
                    wait_until(lambda: len(server.came) >= 60)
            assert [data for _, data in server.came] == 2 * [
                b"%04d" % n for n in range(30)
            ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.root
def test_client_is_told_when_every_backend_refuses(host: str) -> None:
    # As a closed port of the vip itself would: ICMP, needs CAP_NET_RAW.
    gone = closed_port(host)
    with UdpProxy(gone, host=host) as proxy, proxy.client() as client:
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.receive()
        assert proxy.dropped == {"refused": 1}
        assert proxy.all_stats.flows_active == 0
        assert proxy.stats.refused["connect_failed"] == 1
        for _ in range(3):
            client.send(b"?")
            with pytest.raises(ConnectionRefusedError):
                client.receive()
        assert proxy.dropped == {"refused": 4}


def test_backend_that_comes_back_recovers_with_its_answer() -> None:
    address = closed_port()
    pool = {"eject_after": 1, "eject_s": 60}
    with UdpProxy(address, pool=pool) as proxy, proxy.client() as client:
        assert client.hears_nothing()
        assert proxy.all_stats.backends[address].ejected
        with bound(*address) as backend:
            client.send(b"?")
            _, upstream = backend.recvfrom(100)
            assert proxy.all_stats.backends[address].connects == 0
            backend.sendto(b"!", upstream)
            assert client.receive() == b"!"
            assert not proxy.all_stats.backends[address].ejected
            assert proxy.all_stats.backends[address].connects == 1
            kinds = [notice.kind for notice in proxy.engine.notices()]
            assert kinds == ["ejected", "recovered"]


def test_ring_keeps_a_client_on_its_backend() -> None:
    with servers("a", "b", "c") as (one, two, three):
        pool = {"balance": "ring"}
        addresses = [one.address, two.address, three.address]
        with UdpProxy(*addresses, pool=pool, workers=2) as proxy:
            for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
                said = set()
                for _ in range(8):
                    with proxy.client(source) as client:
                        said.add(client.ask())
                assert len(said) == 1
