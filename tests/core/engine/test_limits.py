"""Limits on live relays and on new ones per second, for a vip and for one source.

Beyond a limit a client is reset at once and the limit is named in the counters.
Sources are told apart by binding clients to 127.0.0.x.
"""

import contextlib
import dataclasses
import socket
import threading
import time
from typing import Any

import pytest

from fastpath import Table
from tests.support.relay_tools import Proxy, meets_reset
from tests.support.servers import EchoServer, send_reset
from tests.support.waiting import wait_until


def serves(proxy: Proxy, source: str = "") -> bool:
    """Whether a client from `source` gets an echo."""
    try:
        with proxy.connect(source) as client:
            client.sendall(b"x")
            return client.recv(1) == b"x"
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_connection_beyond_the_limit_is_reset_and_counted(workers: int) -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=workers, max_connections=3) as proxy:
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(proxy.connect())
                wait_until(lambda: proxy.stats.active == 3)
                for _ in range(10):
                    assert meets_reset(proxy)
                assert proxy.stats.active == 3
            proxy.wait_idle()
            assert serves(proxy), "places that came free are free"
            proxy.wait_drops(limit_connections=10, closed=4)
            assert proxy.stats.refused["limit_connections"] == 10


@pytest.mark.parametrize("ends", ["fin", "rst", "admin", "idle"])
def test_place_is_given_back_however_the_relay_ended(ends: str) -> None:
    idle_s = 0.2 if ends == "idle" else 60
    options = {"max_connections": 1, "max_connections_per_source": 1}
    with EchoServer() as server:
        with Proxy(server.address, idle_timeout_s=idle_s, **options) as proxy:
            for _ in range(3):
                client = proxy.connect()
                wait_until(lambda: proxy.stats.active == 1)
                if ends == "rst":
                    send_reset(client)
                elif ends == "fin":
                    client.close()
                elif ends == "admin":
                    proxy.engine.reset()
                proxy.wait_idle()
                client.close()
            assert sum(proxy.drops.values()) == 3


def test_place_of_a_client_that_found_no_backend_is_given_back() -> None:
    with Proxy(max_connections=1, max_connections_per_source=1) as proxy:
        for _ in range(5):
            assert meets_reset(proxy)
        proxy.wait_drops(no_backend=5)


def test_limit_by_source_holds_for_one_source_and_spares_the_others() -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2, max_connections_per_source=2) as proxy:
            with contextlib.ExitStack() as stack:
                for _ in range(2):
                    stack.enter_context(proxy.connect("127.0.0.2"))
                wait_until(lambda: proxy.stats.active == 2)
                for _ in range(5):
                    assert meets_reset(proxy, "127.0.0.2")
                for host in range(3, 20):
                    assert serves(proxy, f"127.0.0.{host}")
            proxy.wait_idle()
            assert serves(proxy, "127.0.0.2")
            assert proxy.drops["limit_source_connections"] == 5


def start_of_a_second() -> None:
    """Return when a second of the core's clock has just begun."""
    second = int(time.clock_gettime(time.CLOCK_MONOTONIC))
    wait_until(lambda: time.clock_gettime(time.CLOCK_MONOTONIC) >= second + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("max_new_per_s", "limit_rate"),
        ("max_new_per_s_per_source", "limit_source_rate"),
    ],
)
def test_rate_beyond_the_limit_is_reset_until_the_second_is_over(
    option: str, reason: str
) -> None:
    with EchoServer() as server:
        with Proxy(server.address, workers=2, **{option: 5}) as proxy:
            for _ in range(2):
                start_of_a_second()
                for _ in range(50):
                    meets_reset(proxy, says=b"x")
            proxy.wait_idle()
            served = proxy.stats.accepted
            assert served + proxy.drops[reason] == 100
            # Fewer only if this machine was too slow to keep within a second; more
            # only by whole seconds that went by.
            assert 10 <= served <= 40


def test_rate_limit_by_source_spares_the_others() -> None:
    with EchoServer() as server:
        with Proxy(server.address, max_new_per_s_per_source=2) as proxy:
            for host in range(2, 30):
                assert serves(proxy, f"127.0.0.{host}")
            assert set(proxy.drops) <= {"closed"}


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_source"])
def test_limit_of_a_new_table_counts_relays_that_live_already(limit: str) -> None:
    with EchoServer() as server, Proxy(server.address) as proxy:
        with proxy.connect(), proxy.connect():
            wait_until(lambda: proxy.stats.active == 2)
            limits: dict[str, Any] = {limit: 2}
            limited = dataclasses.replace(proxy.vip, **limits)
            proxy.engine.apply(Table([limited]))
            if limit == "max_connections":
                assert meets_reset(proxy)
            else:  # nobody counted by source before: those two are not known
                with proxy.connect(), proxy.connect():
                    wait_until(lambda: proxy.stats.active == 4)
                    assert meets_reset(proxy)
        proxy.wait_idle()
        # And relays from before the limit leave no hole in its counters.
        with proxy.connect(), proxy.connect():
            wait_until(lambda: proxy.stats.active == 2)
            assert meets_reset(proxy)


def test_limit_under_a_storm_of_clients_is_never_passed() -> None:
    most = 7
    peak = []
    with EchoServer() as server:
        with Proxy(server.address, workers=2, max_connections=most) as proxy:
            stop = threading.Event()

            def watch() -> None:
                while not stop.is_set():
                    peak.append(proxy.engine.stats().relays_active)

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                with contextlib.ExitStack() as stack:
                    for _ in range(300):
                        client = stack.enter_context(socket.socket())
                        client.setblocking(False)
                        client.connect_ex(proxy.address)
                    wait_until(
                        lambda: proxy.stats.refused["limit_connections"] == 300 - most
                    )
                    assert proxy.stats.active == most
            finally:
                stop.set()
                watcher.join()
            assert max(peak) <= most
            proxy.wait_idle()
