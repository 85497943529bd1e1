"""Relays that wait too long: idle, half-open, and what the kernel watches for us.

The wheel of a worker is coarse (64 ms): tests ask for order and for lower bounds,
never for a moment.
"""

import dataclasses
import socket
import threading
import time

import pytest

from fastpath import Table
from tests.support.relay_tools import (
    Link,
    Listening,
    Proxy,
    ends_in_reset,
    fill,
    linked,
    relay_sockets,
)
from tests.support.servers import receive_all
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.live


def test_idle_relay_is_ended_for_both_sides_and_counted() -> None:
    with linked(idle_timeout_s=0.2) as link:
        link.proxy.wait_drops(idle_timeout=1)
        # Nothing is lost: a FIN is true, and kinder to a client's keepalive set.
        assert link.client.recv(1) == b""
        assert link.server.recv(1) == b""


@pytest.mark.slow
@pytest.mark.parametrize("speaker", ["client", "server"])
def test_bytes_in_either_direction_keep_a_relay_alive(speaker: str) -> None:
    idle_s = scaled(0.4)
    with linked(idle_timeout_s=idle_s) as link:
        one, other = link.client, link.server
        if speaker == "server":
            one, other = other, one
        end = time.monotonic() + 2.5 * idle_s
        while time.monotonic() < end:
            one.sendall(b"tick")
            assert other.recv(10) == b"tick"
            wait_a(idle_s / 8)
        assert link.proxy.drops == {}
        link.proxy.wait_drops(idle_timeout=1)


def wait_a(seconds: float) -> None:
    """Let time pass: here it is time itself that is tested."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds * 10)


@pytest.mark.parametrize("closer", ["client", "server"])
def test_half_open_relay_that_falls_silent_is_ended(closer: str) -> None:
    with linked(idle_timeout_s=0.3) as link:
        one, other = link.client, link.server
        if closer == "server":
            one, other = other, one
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        other.sendall(b"still talking")
        assert one.recv(100) == b"still talking"
        link.proxy.wait_drops(idle_timeout=1)


def test_client_that_says_nothing_is_ended_as_idle() -> None:
    with Listening() as backend, Proxy(backend.address, idle_timeout_s=0.2) as proxy:
        clients = [proxy.connect() for _ in range(20)]
        proxy.wait_drops(idle_timeout=20)
        for client in clients:
            client.close()


def test_idle_timeout_longer_than_connect_timeout_is_kept() -> None:
    # The connect deadline and the idle deadline share one timer.
    options = {"connect_timeout_s": 0.1, "idle_timeout_s": scaled(0.8)}
    with linked(**options) as link:
        begin = time.monotonic()
        link.proxy.wait_drops(idle_timeout=1)
        assert time.monotonic() - begin >= scaled(0.8) - 0.1


@pytest.mark.slow
def test_idle_timeout_with_bytes_undelivered_is_a_reset_not_an_eof() -> None:
    # A FIN would tell the reader that the stream it has a part of is whole.
    with linked(idle_timeout_s=scaled(1.5)) as link:
        fill(link.client)
        link.proxy.wait_drops(idle_timeout=1)
        assert ends_in_reset(link.server)


def test_new_idle_timeout_of_an_applied_table_counts_for_live_relays() -> None:
    with linked(idle_timeout_s=60, connect_timeout_s=0.1) as link:
        proxy = link.proxy
        changed = dataclasses.replace(proxy.vip, idle_timeout_s=0.2)
        proxy.engine.apply(Table([changed]))
        with proxy.connect() as fresh:
            proxy.wait_drops(idle_timeout=2)
            assert receive_all(fresh) == b""


OPTIONS = {
    "keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    "first probe": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 21),
    "interval": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
    "probes": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    "user timeout": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 17_500),
}


def options_of(connection: socket.socket) -> dict[str, int]:
    """The options above as the kernel has them."""
    return {
        name: connection.getsockopt(level, option)
        for name, (level, option, _) in OPTIONS.items()
    }


def test_keepalive_and_user_timeout_are_set_on_both_sockets() -> None:
    # On the backend's not before the connect timeout: most relays end before.
    wanted = {name: value for name, (_, _, value) in OPTIONS.items()}
    with linked(keepalive_s=21, user_timeout_s=17.5, connect_timeout_s=0.1) as link:
        down, up = relay_sockets(link)
        with down, up:
            assert options_of(down) == wanted
            wait_until(lambda: options_of(up) == wanted)


def test_keepalive_of_zero_is_off_on_both_sockets() -> None:
    with linked(keepalive_s=0, user_timeout_s=3, connect_timeout_s=0.1) as link:
        down, up = relay_sockets(link)
        with down, up:
            level, name, _ = OPTIONS["user timeout"]
            wait_until(lambda: up.getsockopt(level, name) == 3000)
            for one in (down, up):
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
                assert one.getsockopt(level, name) == 3000


def test_nagle_is_off_before_it_could_hold_anything_back() -> None:
    with linked() as link:
        down, up = relay_sockets(link)
        with down, up:
            for _ in range(2):  # the first write meets an empty queue and goes at once
                link.client.sendall(b"a")
                assert link.server.recv(1) == b"a"
                link.server.sendall(b"b")
                assert link.client.recv(1) == b"b"
            for one in (down, up):
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def ping_pong_us(client: socket.socket, server: socket.socket, rounds: int) -> float:
    """Median time of a write to and a write back, two small writes each."""
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for one, other in ((client, server), (server, client)):
            one.sendall(b"head")
            one.sendall(b"body")
            got = b""
            while len(got) < 8:
                got += other.recv(8)
        took.append((time.perf_counter() - begin) * 1e6)
    return sorted(took)[rounds // 2]


def test_two_small_writes_in_a_row_meet_no_delayed_acknowledgement() -> None:
    # Nagle against delayed acknowledgements costs 40 ms a time, SPLICE_F_MORE 200 ms.
    with Listening() as backend, Proxy(backend.address) as proxy:
        with socket.create_connection(backend.address) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with backend.accept() as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                direct_us = ping_pong_us(client, server, 100)
        with proxy.connect() as client, backend.accept() as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            relayed_us = ping_pong_us(client, server, 100)
    assert relayed_us < 20 * direct_us + 10_000


def test_last_bytes_of_a_spliced_stream_are_not_held_back() -> None:
    # The end of a burst that is no end of the stream: a corked splice waits 200 ms.
    burst = bytes(3_000_001)
    with linked() as link:
        took = []
        for _ in range(10):
            begin = time.perf_counter()
            exchange(link, burst)
            took.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        plain = socket.socketpair()
        with plain[0], plain[1]:
            exchange(Link(link.proxy, *plain), burst)
        direct_s = time.perf_counter() - begin
    assert sorted(took)[5] < 20 * direct_s + 0.1


def exchange(link: Link, burst: bytes) -> None:
    """Send a burst, read it at the other end."""
    writer = threading.Thread(target=link.client.sendall, args=(burst,))
    writer.start()
    missing = len(burst)
    while missing:
        missing -= len(link.server.recv(min(missing, 1 << 20)))
    writer.join()
