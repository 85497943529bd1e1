"""How long flows live, how many there are, and who may have one."""

import contextlib
import time

import pytest

from fastpath import Delta
from tests.support.udp_tools import Client, UdpProxy, UdpServer, named, servers
from tests.support.waiting import wait_until


def silent() -> UdpServer:
    """A server that never answers."""
    return UdpServer(lambda _: None)


def test_flow_without_an_answer_ends_after_the_one_way_time() -> None:
    with silent() as server:
        with UdpProxy(server.address, udp_one_way_s=0.2, udp_two_way_s=60) as proxy:
            with proxy.client() as client:
                client.send(b"?")
                proxy.wait_flows(1)
                assert proxy.active(server.address) == 1
                proxy.wait_flows(0)
                assert proxy.ended == {"idle_timeout": 1}
                assert proxy.active(server.address) == 0
                client.send(b"again")
                wait_until(lambda: len(server.came) == 2)
                assert proxy.stats.accepted == 2


def test_flow_with_an_answer_lives_for_the_two_way_time() -> None:
    with named("a") as server:
        with UdpProxy(server.address, udp_one_way_s=0.2, udp_two_way_s=1.5) as proxy:
            with proxy.client() as client:
                assert client.ask() == b"a"
                began = time.monotonic()
                proxy.wait_flows(0)
                assert time.monotonic() - began > 1.2
                assert proxy.ended == {"idle_timeout": 1}


def test_two_way_time_may_be_the_shorter_one() -> None:
    with named("a") as server:
        with UdpProxy(server.address, udp_one_way_s=600, udp_two_way_s=0.2) as proxy:
            with proxy.client() as client:
                assert client.ask() == b"a"
                proxy.wait_flows(0)


@pytest.mark.parametrize("side", ["client", "backend"])
def test_datagrams_of_either_side_keep_a_flow(side: str) -> None:
    with silent() as server:
        times = {"udp_one_way_s": 0.6, "udp_two_way_s": 0.6}
        proxy = UdpProxy(server.address, **times)  # type: ignore[arg-type]
        with proxy, proxy.client() as client:
            client.send(b"?")
            wait_until(lambda: server.came)
            upstream = server.came[0][0]
            for _ in range(12):  # three times as long as an idle flow lives
                if side == "client":
                    client.send(b"!")
                else:
                    server.socket.sendto(b"!", upstream)
                time.sleep(0.15)
            assert proxy.stats.accepted == 1
            assert proxy.all_stats.flows_active == 1
            proxy.wait_flows(0)


def test_the_flow_idle_for_longest_makes_room() -> None:
    with named("a") as server:
        with UdpProxy(server.address, engine={"flows_most": 3}) as proxy:
            with contextlib.ExitStack() as stack:
                first, second, third, fourth = (
                    stack.enter_context(proxy.client()) for _ in range(4)
                )
                for client in (first, second, third, first):
                    assert client.ask() == b"a"
                    time.sleep(0.05)  # the core's clock ticks in milliseconds
                assert fourth.ask() == b"a"
                assert proxy.ended == {"evicted": 1}
                for client in (first, third, fourth):
                    assert client.ask() == b"a"
                assert proxy.stats.accepted == 4, "the second one went"
                assert second.ask() == b"a"
                assert proxy.ended == {"evicted": 2}
                assert proxy.all_stats.flows_active == proxy.stats.active == 3


def test_more_clients_in_one_batch_than_flows_are_all_served() -> None:
    with named("a") as server:
        with UdpProxy(server.address, engine={"flows_most": 1}) as proxy:
            clients = [proxy.client() for _ in range(30)]
            for client in clients:
                client.send(b"?")
            wait_until(lambda: len(server.came) == 30)
            assert proxy.ended == {"evicted": 29}
            assert proxy.all_stats.flows_active == 1
            for client in clients:
                client.close()


def test_limit_of_flows() -> None:
    with named("a") as server:
        with UdpProxy(server.address, max_connections=2, udp_two_way_s=0.5) as proxy:
            with proxy.client() as one, proxy.client() as two, proxy.client() as three:
                assert one.ask() == two.ask() == b"a"
                assert three.hears_nothing()
                assert proxy.dropped == {"limit_connections": 1}
                assert proxy.stats.refused["limit_connections"] == 1
                proxy.wait_flows(0)
                assert three.ask() == b"a"


def test_limits_by_source() -> None:
    with named("a") as server:
        with UdpProxy(server.address, max_connections_per_source=1) as proxy:
            with contextlib.ExitStack() as stack:
                sources = ("127.0.0.2", "127.0.0.2", "127.0.0.3")
                mine, again, other = (
                    stack.enter_context(proxy.client(source)) for source in sources
                )
                assert mine.ask() == b"a"
                assert again.hears_nothing()
                assert other.ask() == b"a"
                assert proxy.dropped == {"limit_source_connections": 1}


def test_limit_of_new_flows_a_second_spares_those_that_are_there() -> None:
    with named("a") as server, UdpProxy(server.address, max_new_per_s=3) as proxy:
        clients = [proxy.client() for _ in range(60)]
        for client in clients:
            client.send(b"?")
        wait_until(lambda: proxy.dropped.get("limit_rate", 0) >= 50)
        wait_until(lambda: proxy.udp.datagrams_up == 60)
        served = [clients[0]]
        for _ in range(10):
            served[0].send(b"!")
        wait_until(lambda: proxy.udp.datagrams_up == 70)
        assert proxy.stats.accepted + proxy.dropped["limit_rate"] == 60
        for client in clients:
            client.close()


def test_reset_of_everything_ends_flows() -> None:
    with named("a") as server, UdpProxy(server.address) as proxy:
        with proxy.client() as client:
            assert client.ask() == b"a"
            proxy.engine.reset()
            proxy.wait_flows(0)
            assert proxy.ended == {"reset_by_admin": 1}
            assert client.ask() == b"a"


def test_vip_that_is_removed_ends_its_flows_and_frees_its_address() -> None:
    with servers("a", "b") as (one, two), UdpProxy(one.address) as proxy:
        with proxy.client() as client:
            assert client.ask() == b"a"
            address = proxy.address
            proxy.engine.update(Delta(remove_vips=[proxy.vip.key]), wait_s=5)
            proxy.wait_flows(0)
            with pytest.raises(ConnectionRefusedError):
                client.ask()
            with Client(address, connect=False) as squatter:
                squatter.close()
            again = UdpProxy(two.address, host="127.0.0.1")
            with again, again.client() as other:
                assert other.ask() == b"b"


def test_removed_vip_may_come_back_at_once() -> None:
    with servers("a", "b") as (one, two), UdpProxy(one.address, workers=2) as proxy:
        with proxy.client() as client:
            for server in (one, two, one, two):
                proxy.serve(server.address)
                proxy.engine.settle(5)
                assert client.ask() == (b"a" if server is one else b"b")
