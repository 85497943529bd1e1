"""Every relay is accounted for: how many, how long, how much, and why it ended."""

import bisect
import contextlib
import select
import socket

import pytest

from fastpath import Engine
from tests.support.netns import NetNs
from tests.support.relay_tools import (
    Listening,
    Proxy,
    blackhole,
    linked,
    meets_reset,
    own_socket,
    refusing,
    wait_for,
)
from tests.support.servers import EchoServer, receive_all, send_reset
from tests.support.waiting import wait_until

# Where the test of each drop reason stands. The last one cannot be seen from outside:
# an engine that is closed tells no more.
TESTED = {
    "closed": "test_relay_halfclose",
    "reset_by_client": "test_relay_reset",
    "reset_by_backend": "test_relay_reset",
    "idle_timeout": "test_relay_timeouts",
    "timed_out": __name__,
    "connect_failed": "test_relay_dial",
    "connect_timeout": "test_relay_dial",
    "no_backend": "test_relay_dial",
    "limit_connections": "test_engine_limits",
    "limit_rate": "test_engine_limits",
    "limit_source_connections": "test_engine_limits",
    "limit_source_rate": "test_engine_limits",
    "no_descriptors": "test_adversity_descriptors",
    "no_memory": "test_adversity_descriptors",
    "reset_by_admin": "test_engine_drain",
    "header_timeout": "test_web_timeouts",
    "tls_handshake": "test_web_tls",
    "proxy_protocol": "test_proxy_protocol_waiting",
    "evicted": "test_udp_flows",
    "vip_removed": "test_udp_flows",
    "engine_closed": "",
}


def test_snapshot_names_every_reason_and_each_has_a_test() -> None:
    with Proxy() as proxy:
        assert set(proxy.stats.closed) == set(proxy.stats.refused) == set(TESTED)
        assert proxy.drops == {}


def test_bytes_are_counted_once_for_vip_and_backend() -> None:
    with linked() as link:
        link.client.sendall(b"u" * 70_000)
        link.client.shutdown(socket.SHUT_WR)
        assert len(receive_all(link.server)) == 70_000
        link.server.sendall(b"d" * 123)
        link.server.close()
        assert len(receive_all(link.client)) == 123
        link.proxy.wait_drops(closed=1)
        stats = link.proxy.stats
        (backend,) = link.proxy.engine.stats().backends.values()
        assert (stats.bytes_up, stats.bytes_down) == (70_000, 123)
        assert (backend.bytes_up, backend.bytes_down) == (70_000, 123)
        worker = link.proxy.engine.stats().workers[0]
        assert worker.bytes_copied + worker.bytes_spliced == 70_123


def test_connect_times_stand_in_the_histogram_of_the_backend() -> None:
    with EchoServer() as server, Proxy(server.address) as proxy:
        for _ in range(50):
            with proxy.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        times = proxy.backend(server.address).connect_time
        assert len(times.counts) == len(times.bounds_us) + 1
        assert list(times.bounds_us) == sorted(set(times.bounds_us))
        assert sum(times.counts) == 50 == proxy.backend(server.address).connects
        # The sum lies between what the buckets say at least and at most.
        least = [0, *times.bounds_us]
        used = [i for i, count in enumerate(times.counts) if count]
        assert sum(times.counts[i] * least[i] for i in used) <= times.sum_us
        assert times.sum_us <= sum(
            times.counts[i] * times.bounds_us[i] for i in used if i < 53
        )


def test_slow_connect_is_counted_in_a_high_bucket() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        key = listener.getsockname()
        # The queue is full until the first is accepted; the SYN comes again after 1 s.
        with socket.create_connection(key), Proxy(key) as proxy, proxy.connect():
            wait_until(lambda: proxy.stats.active == 1)
            listener.accept()[0].close()
            wait_until(lambda: proxy.backend(key).connects == 1)
            times = proxy.backend(key).connect_time
            (bucket,) = [i for i, count in enumerate(times.counts) if count]
            assert bucket >= bisect.bisect(times.bounds_us, 500_000)


def test_relays_are_counted_as_accepted_and_active() -> None:
    with EchoServer() as server, Proxy(server.address, workers=2) as proxy:
        with contextlib.ExitStack() as stack:
            for number in range(1, 11):
                stack.enter_context(proxy.connect())
                wait_for(lambda: proxy.backend(server.address).active, number)
            engine = proxy.engine.stats()
            assert proxy.stats.active == proxy.stats.accepted == 10
            assert engine.relays_active == engine.relays_total == 10
            assert sum(w.active for w in engine.workers) == 10
            assert sum(w.relay_slots for w in engine.workers) >= 10
        proxy.wait_idle()
        assert proxy.stats.accepted == 10
        assert proxy.backend(server.address).active == 0


def is_readable(engine: Engine) -> bool:
    """Whether an event loop would call for notices now."""
    return bool(select.select([engine.fileno()], [], [], 0)[0])


def test_notices_make_the_descriptor_readable_until_they_are_read() -> None:
    with refusing() as dead, Proxy(dead, eject_after=2) as proxy:
        engine = proxy.engine
        assert not is_readable(engine)
        assert engine.notices() == []
        assert meets_reset(proxy)
        wait_until(lambda: is_readable(engine))
        assert [note.kind for note in engine.notices()] == ["connect-failed"]
        assert not is_readable(engine)
        assert meets_reset(proxy)
        wait_until(lambda: is_readable(engine))
        assert [tuple(note) for note in engine.notices()] == [("ejected", dead)]
        assert engine.notices() == []


def test_notices_that_nobody_reads_are_dropped_and_counted() -> None:
    with refusing() as dead, Proxy(dead, eject_after=0) as proxy:
        for _ in range(1100):
            meets_reset(proxy)
        proxy.wait_drops(connect_failed=1100)
        kept = len(proxy.engine.notices())
        assert kept >= 1000
        assert proxy.engine.stats().notices_lost == 1100 - kept
        assert meets_reset(proxy)
        wait_until(lambda: len(proxy.engine.notices()) == 1, what="notices go on")


def test_relays_of_all_endings_add_up() -> None:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Listening())
        dead = stack.enter_context(refusing())
        hole = stack.enter_context(blackhole())
        good = stack.enter_context(Proxy(backend.address, idle_timeout_s=0.3))
        ends = []
        for _ in range(4):
            client = good.connect()
            ends.append((client, backend.accept()))
        ends[0][0].close()
        ends[0][1].close()
        send_reset(ends[1][0])
        send_reset(ends[2][1])
        good.wait_drops(closed=1, reset_by_client=1, reset_by_backend=1, idle_timeout=1)
        for client, server in ends:
            client.close()
            server.close()
        for key, reason in ((dead, "connect_failed"), (hole, "connect_timeout")):
            options = {"connect_timeout_s": 0.1, "connect_tries": 1}
            proxy = stack.enter_context(Proxy(key, **options))
            assert meets_reset(proxy)
            proxy.wait_drops(**{reason: 1})
            assert (proxy.stats.accepted, proxy.stats.active) == (1, 0)


@pytest.mark.netns
@pytest.mark.root
@pytest.mark.parametrize("silent", ["client", "server"])
def test_peer_that_vanishes_with_data_on_the_way_is_timed_out(
    netns: NetNs, silent: str
) -> None:
    # As a node that lost power: nothing comes back, not even an RST.
    options = {"user_timeout_s": 0.5, "connect_timeout_s": 0.1}
    with netns.entered(), linked(**options) as link:
        wait_until(lambda: user_timeout_is_set(link.server.getpeername()))
        mute, other = link.client, link.server
        if silent == "server":
            mute, other = other, mute
        netns.lose(f"tcp sport {mute.getsockname()[1]}")
        other.sendall(b"anybody there?")
        link.proxy.wait_drops(timed_out=1)
        with pytest.raises(ConnectionResetError):
            other.recv(1)


def user_timeout_is_set(local: tuple[str, int]) -> bool:
    """Whether the engine has come by to set its options on this socket of its own."""
    with own_socket(local) as found:
        return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 500
