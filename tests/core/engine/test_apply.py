"""Tables come and go under live relays: nothing is lost, nothing is half-done."""

import contextlib
import dataclasses
import errno
import socket
import threading
from typing import Any

import pytest

from fastpath import Backend, Engine, Pool, Table, TableError, Vip
from tests.support.relay_tools import (
    Listening,
    Proxy,
    echoes,
    linked,
    meets_reset,
    wait_for,
)
from tests.support.servers import EchoServer, free_port
from tests.support.waiting import wait_until

LOOPBACKS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)]


class Caller(threading.Thread):
    """One connection after another, each with a request that must be answered."""

    def __init__(self, address: tuple[str, int], number: int) -> None:
        super().__init__(name="caller")
        self.address, self.number = address, number
        self.done = 0
        self.lost: list[BaseException | bool] = []
        self.stop = False
        self.start()

    def count(self) -> int:
        """How often it was answered."""
        return self.done

    def run(self) -> None:
        """Call."""
        while not self.stop:
            try:
                answered = echoes(self.address, b"%d" % self.number * 100)
            except OSError as error:
                self.lost.append(error)
            else:
                self.done += 1
                if not answered:
                    self.lost.append(False)


@contextlib.contextmanager
def calling(address: tuple[str, int], count: int = 4) -> Any:
    """Callers at work for as long as the block runs; then none may have lost one."""
    callers = [Caller(address, number) for number in range(count)]
    try:
        wait_until(lambda: min(caller.done for caller in callers) > 0)
        yield callers
    finally:
        for caller in callers:
            caller.stop = True
        for caller in callers:
            caller.join()
    assert [caller.lost for caller in callers] == [[]] * count


@pytest.mark.slow
def test_thousand_applies_under_load_lose_no_connection() -> None:
    with EchoServer() as one, EchoServer() as other, Engine(workers=2) as engine:
        backends = (Backend(*one.address), Backend(*other.address))
        vip = Vip("127.0.0.1", 0, "tcp", Pool(backends, balance="least"))
        extra = Vip("127.0.0.2", 0, "tcp", Pool(backends[:1]))
        engine.apply(Table([vip]))
        with calling(engine.address(vip)) as callers:
            for number in range(1000):
                if number % 10 == 0:  # nobody is to be left behind
                    caller = callers[number // 10 % len(callers)]
                    wait_for(caller.count, caller.done + 2)
                chosen = backends if number % 3 else backends[number // 3 % 2 :][:1]
                weighted = tuple(
                    dataclasses.replace(b, weight=1 + number % 5) for b in chosen
                )
                changed = dataclasses.replace(
                    vip, pool=Pool(weighted, balance="ring" if number % 2 else "least")
                )
                vips = [changed, extra] if number % 7 == 0 else [changed]
                assert engine.apply(Table(vips)) == number + 2
            assert engine.generation == 1001


def test_live_relays_outlast_the_vip_and_the_backend_that_they_came_by() -> None:
    with linked() as link:
        engine = link.proxy.engine
        engine.apply(Table([]))
        link.client.sendall(b"still")
        assert link.server.recv(10) == b"still"
        link.server.sendall(b"here")
        assert link.client.recv(10) == b"here"
        assert engine.stats().relays_active == 1
        with pytest.raises(ConnectionRefusedError):
            link.proxy.connect()
        link.client.close()
        link.server.close()
        wait_until(lambda: engine.stats().relays_active == 0)


def test_clients_in_the_queue_of_a_vip_that_goes_are_served() -> None:
    # The kernel has let them in: their handshake is done, and perhaps their request.
    with EchoServer() as server, Engine(workers=1) as engine:
        for _ in range(20):
            vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
            engine.apply(Table([vip]))
            with contextlib.ExitStack() as stack:
                clients = []
                for _ in range(30):
                    client = stack.enter_context(socket.socket())
                    client.settimeout(10)
                    client.connect(engine.address(vip))
                    clients.append(client)
                engine.apply(Table([]))
                for client in clients:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"


def test_bind_that_fails_changes_nothing() -> None:
    with EchoServer() as server, socket.socket() as taken, Engine(workers=2) as engine:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        pool = Pool((Backend(*server.address),))
        kept = Vip("127.0.0.1", 0, "tcp", pool)
        engine.apply(Table([kept]))
        before, address = engine.stats(), engine.address(kept)
        fresh = Vip("127.0.0.1", free_port(), "tcp", pool)
        blocked = Vip("127.0.0.1", taken.getsockname()[1], "tcp", pool)
        for vips in ([fresh, blocked], [blocked, fresh], [kept, fresh, blocked]):
            with pytest.raises(OSError, match=f"{blocked.port}") as failed:
                engine.apply(Table(vips))
            assert failed.value.errno == errno.EADDRINUSE
        assert engine.generation == before.generation == 1
        assert engine.address(kept) == address
        assert engine.stats().vips.keys() == before.vips.keys()
        assert echoes(address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(fresh.key[1:])
        with pytest.raises(KeyError):
            engine.address(fresh)
        taken.close()
        assert engine.apply(Table([kept, fresh, blocked])) == 2
        assert echoes(blocked.key[1:])
        assert echoes(fresh.key[1:])


def test_address_and_all_addresses_share_a_port_in_one_engine_only() -> None:
    with EchoServer() as server, Engine(workers=2) as engine, Engine(workers=1) as late:
        pool = Pool((Backend(*server.address),))
        one = Vip("127.0.0.1", free_port(), "tcp", pool)
        everywhere = Vip("0.0.0.0", one.port, "tcp", pool)
        for vips in ([one], [one, everywhere], [everywhere], [everywhere, one]):
            engine.apply(Table(vips))
            assert echoes(one.key[1:])
            with pytest.raises(OSError, match="cannot listen on") as failed:
                late.apply(Table([one]))
            assert failed.value.errno == errno.EADDRINUSE
        for vips in ([one, everywhere], [everywhere, one]):
            engine.apply(Table([]), wait_s=5)
            engine.apply(Table(vips))  # both come by one delta
            assert echoes(one.key[1:])
        engine.apply(Table([]))
        late.apply(Table([one]))
        assert echoes(one.key[1:])


def test_port_that_was_given_up_is_not_shared_with_who_has_it_now() -> None:
    with Engine(workers=1) as engine, Engine(workers=1) as other:
        one = Vip("127.0.0.1", free_port(), "tcp", Pool(()))
        engine.apply(Table([one]), wait_s=5)
        engine.apply(Table([]), wait_s=5)
        other.apply(Table([one]))
        with pytest.raises(OSError, match="cannot listen on") as failed:
            engine.apply(Table([one]))
        assert failed.value.errno == errno.EADDRINUSE


def test_address_that_is_not_ours_cannot_be_bound() -> None:
    with Engine(workers=1) as engine:
        with pytest.raises(OSError, match=r"192\.0\.2\.1") as failed:
            engine.apply(Table([Vip("192.0.2.1", 80, "tcp")]))
        assert failed.value.errno == errno.EADDRNOTAVAIL
        assert engine.generation == 0


def unbuildable(host: str) -> Vip:
    """A vip that fails only while its blocks are built, as without memory."""
    pool = Pool(())
    object.__setattr__(pool, "eject_s", None)
    return Vip(host, 0, "tcp", pool)


def test_build_that_fails_changes_nothing() -> None:
    with EchoServer() as server, Engine(workers=2) as engine:
        vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
        engine.apply(Table([vip]))
        for _ in range(3):
            with pytest.raises(TypeError):
                engine.apply(Table([vip, unbuildable("127.0.0.2")]))
        assert echoes(engine.address(vip))
        assert engine.generation == 1
        assert engine.apply(Table([vip])) == 2


def test_failed_apply_that_named_a_leaving_backend_breaks_no_later_one() -> None:
    # Symptom: KeyError out of every later apply, after the table was published.
    with Listening() as backend, EchoServer() as server, Engine(workers=1) as engine:
        leaving = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*backend.address),)))
        engine.apply(Table([leaving]))
        address = engine.address(leaving)
        with socket.create_connection(address), backend.accept() as connection:
            engine.apply(Table([]))  # left, but with a live relay
            with pytest.raises(TypeError):
                engine.apply(Table([leaving, unbuildable("127.0.0.2")]))
            engine.reset()
            wait_until(lambda: engine.stats().relays_active == 0)
            assert connection.fileno() > 0
        good = Vip("127.0.0.3", 0, "tcp", Pool((Backend(*server.address),)))
        for _ in range(3):
            engine.apply(Table([good]))
            engine.apply(Table([]))


def test_port_zero_is_kept_until_the_vip_goes() -> None:
    with EchoServer() as server, Engine(workers=2) as engine:
        vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
        engine.apply(Table([vip]))
        host, port = engine.address(vip)
        assert host == "127.0.0.1"
        assert port > 0
        changed = dataclasses.replace(vip, idle_timeout_s=5.0)
        engine.apply(Table([changed]))
        assert engine.address(changed) == engine.address(vip.key) == (host, port)
        assert echoes((host, port))
        engine.apply(Table([]))
        with pytest.raises(KeyError):
            engine.address(vip)


@pytest.mark.parametrize("front", LOOPBACKS)
@pytest.mark.parametrize("back", LOOPBACKS)
def test_either_family_reaches_either_family(front: str, back: str) -> None:
    with EchoServer(host=back) as server:
        with Proxy(server.address, host=front) as proxy:
            assert proxy.address.host == front
            assert echoes(proxy.address, b"x" * 100_000)
            proxy.wait_drops(closed=1)


@pytest.mark.ipv6
def test_wildcards_of_both_families_share_a_port_without_a_quarrel() -> None:
    port = free_port()
    with EchoServer() as server, Engine(workers=2) as engine:
        pool = Pool((Backend(*server.address),))
        vips = [Vip("0.0.0.0", port, "tcp", pool), Vip("::", port, "tcp", pool)]
        engine.apply(Table(vips))
        assert echoes(("127.0.0.1", port))
        assert echoes(("::1", port))
        stats = engine.stats()
        wait_until(lambda: engine.stats().relays_active == 0)
        assert [stats.vips[vip.key].accepted for vip in vips] == [1, 1]


def test_one_address_written_in_two_ways_is_a_table_error() -> None:
    with pytest.raises(TableError):
        Table([Vip("::1", 7000, "tcp"), Vip("0:0:0:0:0:0:0:1", 7000, "tcp")])


@pytest.mark.parametrize("host", ["localhost", "", "127.0.0.1.", "::1%lo", "1.2.3"])
def test_name_in_the_place_of_an_address_is_a_table_error(host: str) -> None:
    with pytest.raises(TableError):
        Table([Vip(host, 7000, "tcp")])
    with pytest.raises(TableError):
        Table([Vip("127.0.0.1", 7000, "tcp", Pool((Backend(host, 1),)))])


def test_table_is_a_table() -> None:
    with Engine(workers=1) as engine, pytest.raises(TypeError):
        engine.apply([])  # type: ignore[arg-type]


def test_applies_from_many_threads_take_turns() -> None:
    with EchoServer() as server, Proxy(server.address, workers=2) as proxy:
        pool = proxy.vip.pool
        generations: list[int] = []

        def apply(number: int) -> None:
            other = Vip(f"127.0.0.{number}", 0, "tcp", pool)
            for _ in range(25):
                table = Table([proxy.vip, other])
                generations.append(proxy.engine.apply(table))

        threads = [threading.Thread(target=apply, args=(n,)) for n in range(2, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(generations) == list(range(2, 102))
        assert echoes(proxy.address)


@pytest.mark.slow
def test_statistics_may_be_read_while_another_thread_applies() -> None:
    with Engine(workers=1) as engine:
        failures: list[BaseException] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                try:
                    engine.stats()
                    engine.notices()
                except Exception as error:
                    failures.append(error)
                    return

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for number in range(300):
                backends = [
                    Backend("127.0.0.1", 1 + (number * 37 + k) % 5000)
                    for k in range(30)
                ]
                engine.apply(Table([Vip("127.0.0.1", 0, "tcp", Pool(tuple(backends)))]))
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert failures == []


def test_vip_for_clients_that_speak_first_serves_them_and_the_silent_ones() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2, client_first=True) as proxy:
            for _ in range(20):
                assert echoes(proxy.address, b"x" * 3000)
            with proxy.connect() as silent:
                # The kernel repeats its SYN-ACK after a second, then lets it in.
                wait_until(lambda: proxy.stats.active == 1)
                silent.sendall(b"at last")
                assert silent.recv(100) == b"at last"
            proxy.wait_drops(closed=21)


def test_pool_that_was_empty_is_filled_by_an_apply() -> None:
    with EchoServer() as server, Proxy() as proxy:
        assert meets_reset(proxy)
        pool = Pool((Backend(*server.address),))
        proxy.engine.apply(Table([dataclasses.replace(proxy.vip, pool=pool)]))
        assert echoes(proxy.address)
