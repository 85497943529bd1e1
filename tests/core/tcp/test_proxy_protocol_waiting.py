"""Trusted peers with a PROXY header that is late, damaged or never comes.

They are reset and counted by name, no backend hears of them, and while they are waited
for they have a place among the clients of the vip.
"""

import contextlib
import random
import socket

import pytest

from fastpath import Table
from tests.support.proxy_protocol_tools import (
    HEADERS,
    STRANGER,
    TRUSTED,
    is_served,
    trusting,
)
from tests.support.proxyhead_reference import frame, raw_frame
from tests.support.relay_tools import Listening, blackhole, ends_in_reset
from tests.support.servers import EchoServer, receive_all, send_reset
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.live


@pytest.mark.adversity
@pytest.mark.parametrize(
    "says",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
        b"PROXY " + b"x" * 200,
        raw_frame(bytes(12), command=0x31),
        raw_frame(bytes(65535)),
        raw_frame(bytes(100), size=65535),
        frame("10.0.0.1", 1, b"\x04\xff\xff"),
    ],
    ids=["tls", "http", "short", "long", "v3", "64 KiB", "64 KiB begun", "extension"],
)
def test_trusted_peer_without_a_header_is_reset_and_counted(says: bytes) -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(says)
            assert ends_in_reset(client)
        proxy.wait_drops(proxy_protocol=1)
        assert proxy.stats.refused["proxy_protocol"] == 1
        assert proxy.stats.accepted == 0
        assert proxy.backend(backend.address).connects == 0


@pytest.mark.adversity
@pytest.mark.parametrize("part", [b"", b"P", b"PROXY", HEADERS["v2"][:-1]], ids=len)
def test_end_of_stream_inside_the_header_is_none(part: bytes) -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(part)
            proxy.wait_idle(live=1)
            client.shutdown(socket.SHUT_WR)
            assert ends_in_reset(client)
        proxy.wait_drops(proxy_protocol=1)


@pytest.mark.adversity
def test_client_that_resets_inside_the_header_is_counted_as_that() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        client = proxy.connect(TRUSTED)
        client.sendall(b"PROXY TCP4")
        proxy.wait_idle(live=1)
        send_reset(client)
        proxy.wait_drops(reset_by_client=1)


@pytest.mark.adversity
@pytest.mark.parametrize("part", [b"", b"PROXY TCP4", HEADERS["v2"][:-1]], ids=len)
def test_header_that_does_not_come_in_time_is_given_up(part: bytes) -> None:
    with EchoServer() as server:
        limits = {"max_connections": 1, "connect_timeout_s": 0.2}
        with trusting(server.address, **limits) as proxy:
            with proxy.connect(TRUSTED) as client:
                client.sendall(part)
                assert ends_in_reset(client)
            proxy.wait_drops(header_timeout=1)
            assert is_served(proxy, HEADERS["v1"]), "its place is free"


def test_backend_has_its_whole_time_after_a_header_that_took_long() -> None:
    # One timer serves both waits.
    timeout_s = scaled(0.6)
    with blackhole() as nobody, EchoServer() as server:
        options = {"connect_timeout_s": timeout_s, "balance": "round-robin"}
        with trusting(nobody, server.address, **options) as proxy:
            for _ in range(2):  # one of them meets the black hole first
                with proxy.connect(TRUSTED) as client:
                    client.sendall(b"PROXY ")
                    proxy.wait_idle(live=1)
                    client.sendall(HEADERS["v1"][6:] + b"x")
                    assert client.recv(1) == b"x"
            proxy.wait_idle()
            assert proxy.drops == {"closed": 2}


# ---- Connections that wait.


def test_who_waits_takes_a_place_of_the_vip() -> None:
    # Else half-open headers would be connections without limit.
    with EchoServer() as server, trusting(server.address, max_connections=2) as proxy:
        with proxy.connect(TRUSTED) as one, proxy.connect(TRUSTED) as two:
            for client in (one, two):
                client.sendall(b"PROXY ")
            proxy.wait_idle(live=2)
            assert not is_served(proxy, HEADERS["v1"])
            assert not is_served(proxy, b"", STRANGER)
            # And keeps it when the header has come, with the vip still full.
            for client in (one, two):
                client.sendall(HEADERS["v1"][6:] + b"x")
                assert client.recv(1) == b"x"
        proxy.wait_drops(limit_connections=2, closed=2)


def test_reset_reaches_who_waits() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(b"PROXY ")
            proxy.wait_idle(live=1)
            proxy.engine.reset()
            assert ends_in_reset(client)
        proxy.wait_drops(reset_by_admin=1)


def test_engine_that_closes_resets_who_waits() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(b"PROXY ")
            proxy.wait_idle(live=1)
            proxy.engine.close()
            assert ends_in_reset(client)


def test_who_waits_goes_on_through_a_drain() -> None:
    with EchoServer() as server, trusting(server.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(b"PROXY ")
            proxy.wait_idle(live=1)
            proxy.engine.drain()
            client.sendall(HEADERS["v1"][6:] + b"x")
            assert client.recv(1) == b"x"


def test_who_waits_for_a_vip_that_goes_is_reset_with_its_header() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(b"PROXY ")
            proxy.wait_idle(live=1)
            proxy.engine.apply(Table([]))
            client.sendall(HEADERS["v1"][6:])
            assert ends_in_reset(client)
        wait_until(lambda: proxy.engine.stats().relays_active == 0)


@pytest.mark.adversity
@pytest.mark.parametrize("workers", [1, 2])
def test_many_clients_that_damage_their_headers_are_all_accounted(workers: int) -> None:
    dice = random.Random(workers)
    names = list(HEADERS)
    served = 0
    with EchoServer() as server, trusting(server.address, workers=workers) as proxy:
        for _ in range(400):
            header = bytearray(HEADERS[dice.choice(names)][:200])
            if dice.random() < 0.5:
                header[dice.randrange(len(header))] = dice.randrange(256)
            with proxy.connect(TRUSTED) as client, contextlib.suppress(OSError):
                at = dice.randrange(len(header))
                client.sendall(header[:at])
                client.sendall(header[at:] + b"x")
                client.shutdown(socket.SHUT_WR)
                served += receive_all(client)[-1:] == b"x"
        proxy.wait_accounted()
        assert proxy.drops.keys() <= {"closed", "proxy_protocol", "reset_by_client"}
        assert served == proxy.drops["closed"]
        assert 100 < served < 350
        assert proxy.held[0] == 0
