"""A backend that does not answer costs the client nothing but time.

As long as no byte has moved the next backend is tried, with what was read from the
client already; after the last try the client is reset, and the reason is counted.
"""

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from fastpath import Backend
from tests.support.netns import NetNs
from tests.support.relay_tools import (
    Listening,
    Proxy,
    blackhole,
    meets_reset,
    refusing,
)
from tests.support.servers import (
    Address,
    EchoServer,
    receive_all,
    receive_exactly,
    send_reset,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

# Where the first dial goes: tier 0 is taken by the bad backend alone.
BAD: dict[str, Callable[[], contextlib.AbstractContextManager[Address]]] = {
    "refused": refusing,
    "timeout": blackhole,
}
FAST = {"connect_timeout_s": 0.15, "eject_after": 0}


def behind(bad: Address, good: Address) -> tuple[Backend, Backend]:
    """The good backend is asked only when the bad one was."""
    return Backend(*bad), Backend(*good, tier=1)


@pytest.mark.parametrize("bad", BAD)
def test_failed_dial_is_repeated_at_another_backend(bad: str) -> None:
    with BAD[bad]() as dead, Listening() as backend:
        with Proxy(*behind(dead, backend.address), **FAST) as proxy:
            with proxy.connect() as client, backend.accept() as server:
                server.sendall(b"from the second")
                assert client.recv(100) == b"from the second"
            assert proxy.stats.retries == 1
            assert proxy.backend(dead).connect_failures == 1
            assert proxy.backend(dead).connects == 0
            assert proxy.backend(backend.address).connects == 1


@pytest.mark.parametrize("size", [1, 1000, 65536, 200_000])
@pytest.mark.parametrize("bad", BAD)
def test_request_read_before_the_dial_failed_goes_to_the_next_backend(
    bad: str, size: int
) -> None:
    # The first read may be done before the backend refuses: it waits in the spill.
    request = bytes(range(250)) * (size // 250 + 1)
    with BAD[bad]() as dead, Listening() as backend:
        with Proxy(*behind(dead, backend.address), **FAST) as proxy:
            for _ in range(3):
                with proxy.connect() as client:
                    client.sendall(request[:size])
                    client.shutdown(socket.SHUT_WR)
                    with backend.accept() as server:
                        assert receive_all(server) == request[:size]
                        server.sendall(b"answer")
                    assert receive_all(client) == b"answer"
            proxy.wait_drops(closed=3)
            assert proxy.held[0] == 0


@pytest.mark.parametrize("bad", BAD)
def test_fin_before_the_dial_failed_reaches_the_next_backend(bad: str) -> None:
    with BAD[bad]() as dead, Listening() as backend:
        with Proxy(*behind(dead, backend.address), **FAST) as proxy:
            with proxy.connect() as client:
                client.shutdown(socket.SHUT_WR)
                with backend.accept() as server:
                    assert server.recv(1) == b""
                    server.sendall(b"answer")
                assert receive_all(client) == b"answer"


@pytest.mark.parametrize("says", [b"", b"hello"])
@pytest.mark.parametrize("bad", BAD)
def test_client_is_reset_when_every_try_has_failed(bad: str, says: bytes) -> None:
    reason = {"refused": "connect_failed", "timeout": "connect_timeout"}[bad]
    with contextlib.ExitStack() as stack:
        dead = [stack.enter_context(BAD[bad]()) for _ in range(4)]
        proxy = stack.enter_context(Proxy(*dead, connect_tries=3, **FAST))
        assert meets_reset(proxy, says=says)
        proxy.wait_drops(**{reason: 1})
        assert proxy.stats.retries == 2
        assert sum(proxy.backend(one).connect_failures for one in dead) == 3
        assert proxy.stats.refused[reason] == 1
        proxy.wait_idle()


@pytest.mark.parametrize("tries", [1, 2, 3, 4])
def test_no_backend_is_dialled_more_often_than_the_pool_allows(tries: int) -> None:
    with contextlib.ExitStack() as stack:
        dead = [stack.enter_context(refusing()) for _ in range(6)]
        proxy = stack.enter_context(Proxy(*dead, connect_tries=tries, **FAST))
        assert meets_reset(proxy)
        failures = [proxy.backend(one).connect_failures for one in dead]
        assert sum(failures) == tries
        assert max(failures) == 1, "one that failed was asked again"


def test_pool_without_backends_resets_the_client() -> None:
    with Proxy() as proxy:
        assert meets_reset(proxy)
        proxy.wait_drops(no_backend=1)


def test_backends_of_weight_zero_are_none() -> None:
    with Listening() as backend, Proxy(Backend(*backend.address, weight=0)) as proxy:
        assert meets_reset(proxy)
        proxy.wait_drops(no_backend=1)


def test_backend_that_resets_at_once_is_not_the_clients_end() -> None:
    # Accepted and reset before a byte has moved: as good as refused.
    with Listening() as rude, Listening() as backend:
        with Proxy(*behind(rude.address, backend.address), **FAST) as proxy:
            with proxy.connect() as client:
                send_reset(rude.accept())
                wait_until(lambda: proxy.stats.retries or proxy.drops)
                if proxy.drops:  # it had been flowing already: mirrored, then
                    with pytest.raises(ConnectionResetError):
                        client.recv(1)
                    return
                with backend.accept() as server:
                    server.sendall(b"hello")
                    assert client.recv(100) == b"hello"


def test_client_that_resets_while_dialling_is_dropped_at_once() -> None:
    with blackhole() as dead, Proxy(dead, connect_timeout_s=30) as proxy:
        client = proxy.connect()
        wait_until(lambda: proxy.stats.active == 1)
        send_reset(client)
        proxy.wait_drops(reset_by_client=1)
        assert proxy.backend(dead).active == 0


def test_bytes_that_a_client_sends_while_dialling_are_kept_in_its_window() -> None:
    # Nothing is read beyond one spill until somebody is there to take it.
    request = bytes(range(256)) * 8192
    with blackhole() as dead, Listening() as backend:
        options = {**FAST, "connect_timeout_s": 0.4}
        with Proxy(*behind(dead, backend.address), **options) as proxy:
            with proxy.connect() as client:
                client.settimeout(0.1)
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < len(request):
                        sent += client.send(request[sent : sent + 65536])
                assert proxy.held <= (1, 0)
                client.settimeout(10)
                with backend.accept() as server:
                    assert receive_exactly(server, sent) == request[:sent]


def test_dial_that_succeeds_late_starts_the_relay() -> None:
    # The backend's queue has room again before the timeout: the kernel repeats the
    # SYN after a second.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.settimeout(10)
        address = Address(*listener.getsockname())
        with socket.create_connection(address), Proxy(address) as proxy:
            with proxy.connect() as client:
                client.sendall(b"patience")
                wait_until(lambda: proxy.stats.active == 1)
                first, _ = listener.accept()
                second, _ = listener.accept()
                with first, second:
                    second.settimeout(10)
                    assert receive_exactly(second, 8) == b"patience"
            assert proxy.backend(address).connect_failures == 0


@pytest.mark.netns
@pytest.mark.root
def test_backend_behind_a_silent_firewall_is_given_up_for_another(
    netns: NetNs,
) -> None:
    # As a node that is gone: no loopback shortcut, SYNs fall into nothing.
    netns.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    netns.lose("tcp dport 81")
    with netns.entered(), EchoServer(host="192.0.2.1") as server:
        backends = behind(Address("192.0.2.1", 81), server.address)
        with Proxy(*backends, **FAST) as proxy:
            for _ in range(3):
                with proxy.connect() as client:
                    client.sendall(b"over the wall")
                    assert receive_exactly(client, 13) == b"over the wall"
            assert proxy.stats.retries == 3
            proxy.wait_drops(closed=3)


@pytest.mark.netns
@pytest.mark.root
def test_backend_without_a_route_is_given_up_at_once(netns: NetNs) -> None:
    with netns.entered(), EchoServer() as server:
        nowhere = Address("198.51.100.1", 80)
        with Proxy(*behind(nowhere, server.address), connect_timeout_s=60) as proxy:
            begin = time.monotonic()
            with proxy.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            assert time.monotonic() - begin < 30
            assert proxy.backend(nowhere).connect_failures == 1
