"""Where clients send: addresses, given sockets, drains, changes of the table."""

import contextlib
import errno
import socket
import threading

import pytest

from fastpath import Backend, Delta, Engine, Pool, Table, TableError, Vip
from tests.support.leaks import Holdings, leaked_since
from tests.support.servers import EchoServer
from tests.support.udp_tools import Client, Key, UdpProxy, bound, named, servers
from tests.support.waiting import scaled, wait_until


def vip_at(address: Key, pool: Pool) -> Vip:
    """A vip of UDP."""
    return Vip(*address, "udp", pool)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("wildcard", "hosts"),
    [("0.0.0.0", ["127.0.0.1", "127.0.0.5", "127.7.7.7"]), ("::", ["::1"])],
)
def test_wildcard_replies_from_the_address_that_was_dialled(
    wildcard: str, hosts: list[str], workers: int
) -> None:
    with named("a") as server:
        with UdpProxy(server.address, host=wildcard, workers=workers) as proxy:
            for host in hosts:
                # A connected socket takes datagrams of that address alone.
                with Client((host, proxy.address[1])) as client:
                    assert client.ask() == b"a"
            with Client((hosts[0], proxy.address[1]), connect=False) as one:
                for host in 2 * hosts:  # of one port, and by turns: a flow for each
                    one.socket.sendto(b"?", (host, proxy.address[1]))
                    data, sender = one.socket.recvfrom(10)
                    assert (data, sender[:2]) == (b"a", (host, proxy.address[1]))
            assert proxy.stats.accepted == 2 * len(hosts)


def test_both_protocols_share_an_address() -> None:
    with named("a") as server, EchoServer() as tcp:
        with UdpProxy(server.address) as proxy:
            vip = Vip(*proxy.address, "tcp", Pool([Backend(*tcp.address)]))
            proxy.engine.update(Delta(vips=[vip]), wait_s=5)
            with proxy.client() as client:
                assert client.ask() == b"a"
            with socket.create_connection(proxy.address, scaled(5)) as relay:
                relay.sendall(b"?")
                assert relay.recv(1) == b"?"
            assert proxy.engine.stats().vips[vip.key].accepted == 1
            assert proxy.stats.accepted == 1


def test_address_that_is_taken_is_refused() -> None:
    pool = Pool([Backend("127.0.0.1", 9)])
    with bound("127.0.0.1") as taken, Engine(1) as engine:
        vip = vip_at(taken.getsockname(), pool)
        with pytest.raises(OSError, match="UDP") as caught:
            engine.apply(Table([vip]))
        assert caught.value.errno == errno.EADDRINUSE
    with UdpProxy(("127.0.0.1", 9)) as proxy, Engine(1) as engine:
        with pytest.raises(OSError, match="in use"):
            engine.apply(Table([Vip(*proxy.address, "udp", pool)]))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"host": "unix:/run/x"}, "path"),
        ({"proxy_protocol_from": ["10.0.0.0/8"]}, "proxy protocol"),
        ({"pool": Pool([Backend("unix:/run/x", 1)])}, "to a path"),
        ({"udp_one_way_s": 0}, "one-way"),
        ({"udp_two_way_s": -1}, "two-way"),
    ],
)
def test_what_udp_cannot_have_is_refused(options: dict[str, object], what: str) -> None:
    given = {"host": "127.0.0.1", "port": 0, "protocol": "udp", **options}
    with pytest.raises(TableError, match=what):
        Vip(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2])
def test_given_sockets_serve_and_stay_the_callers(count: int) -> None:
    before = Holdings.now()
    with named("a") as server, contextlib.ExitStack() as stack:
        given = [stack.enter_context(bound("127.0.0.1"))]
        address: Key = given[0].getsockname()
        if count == 2:
            given[0].close()
            given = [stack.enter_context(side_by_side(address)) for _ in range(2)]
        vip = Vip(*address, "udp", Pool([Backend(*server.address)]))
        numbers = [each.fileno() for each in given]
        with Engine(2) as engine:
            engine.apply(Table([vip]), sockets={vip.key: numbers})
            clients = [stack.enter_context(Client(address)) for _ in range(20)]
            assert [client.ask() for client in clients] == 20 * [b"a"]
            assert [client.ask() for client in clients] == 20 * [b"a"]
            assert engine.stats().vips[vip.key].accepted == 20
            engine.drain()
            clients[0].send(b"for whoever has the socket now")
            wait_until(lambda: any(taken(each) for each in given))
    assert not leaked_since(before)


def side_by_side(address: Key) -> socket.socket:
    """A socket that shares its address."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    return made


def taken(given: socket.socket) -> bool:
    """Whether a datagram waits in the socket."""
    with contextlib.suppress(BlockingIOError):
        return given.recv(100, socket.MSG_DONTWAIT) != b""
    return False


def test_socket_that_does_not_fit_is_refused() -> None:
    pool = Pool([Backend("127.0.0.1", 9)])
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        bound("127.0.0.1") as udp,
        Engine(1) as engine,
    ):
        vip = vip_at(tcp.getsockname(), pool)
        with pytest.raises(OSError, match="take over"):
            engine.apply(Table([vip]), sockets={vip.key: [tcp.fileno()]})
        other = Vip("127.0.0.1", udp.getsockname()[1] ^ 1, "udp", pool)
        with pytest.raises(OSError, match="take over"):
            engine.apply(Table([other]), sockets={other.key: [udp.fileno()]})


@pytest.mark.parametrize("workers", [1, 3])
def test_drain_keeps_flows_and_takes_no_new_ones(workers: int) -> None:
    with servers("a", "b") as (one, two):
        with UdpProxy(one.address, workers=workers) as proxy:
            clients = [proxy.client() for _ in range(12)]
            assert [client.ask() for client in clients] == 12 * [b"a"]
            proxy.engine.drain()
            assert [client.ask() for client in clients] == 12 * [b"a"]
            with proxy.client() as late:
                assert late.hears_nothing()
                assert proxy.dropped == {"draining": 1}
                proxy.serve(two.address)  # listens again, on the same port or not
                proxy.address = proxy.engine.address(proxy.vip)
            with proxy.client() as again:
                assert again.ask() == b"b"
            for client in clients:
                client.close()


def test_drained_vip_listens_again_on_its_own_port() -> None:
    with bound("127.0.0.1") as free:
        port = free.getsockname()[1]
    with servers("a", "b") as (one, two), Engine(2) as engine:
        first = Vip("127.0.0.1", port, "udp", Pool([Backend(*one.address)]))
        engine.apply(Table([first]))
        with Client(("127.0.0.1", port)) as client, Client(("127.0.0.1", port)) as new:
            assert client.ask() == b"a"
            engine.drain()
            assert client.ask() == b"a"
            assert new.hears_nothing()
            second = Vip("127.0.0.1", port, "udp", Pool([Backend(*two.address)]))
            engine.apply(Table([second]), wait_s=scaled(5))
            assert client.ask() == b"b"
            assert new.ask() == b"b"
            engine.drain()
            engine.update(Delta(remove_vips=[second.key]), wait_s=scaled(5))
            wait_until(lambda: engine.stats().flows_active == 0)
    with bound("127.0.0.1", port):
        pass


def test_vips_come_and_go_while_clients_talk() -> None:
    before = Holdings.now()
    with servers("a", "b") as (one, two):
        with UdpProxy(one.address, workers=2) as proxy, proxy.client() as client:
            stop = threading.Event()
            failures: list[BaseException] = []

            def change() -> None:
                turn = 0
                try:
                    while not stop.is_set():
                        turn += 1
                        vips = [proxy.made_of((one, two)[turn % 2].address)]
                        if turn % 3 == 0:
                            pool = Pool([Backend(*two.address)])
                            vips.append(Vip("127.0.0.2", 0, "udp", pool))
                        proxy.engine.apply(Table(vips))
                except BaseException as error:
                    failures.append(error)

            thread = threading.Thread(target=change)
            thread.start()
            said = [client.ask() for _ in range(300)]
            stop.set()
            thread.join()
            assert not failures
            assert set(said) == {b"a", b"b"}
            assert proxy.stats.accepted == 1
            assert proxy.udp.resteered > 3
            assert proxy.dropped == {}
    assert not leaked_since(before)
