"""Bytes through TLS, Python's `ssl` at the other end: both roles, both versions."""

import os
import select
import socket
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.tls.context import ClientContext, ServerContext
from fastpath.tls.endpoint import Transport
from tests.support.servers import send_reset
from tests.support.tls_tools import (
    Certificates,
    Peer,
    connected,
    our_client,
    our_server,
    read,
    send,
    shake,
    spin,
    tcp_pair,
)
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

Both = tuple[Transport, Peer]


@pytest.fixture(params=["client 1.2", "client 1.3", "server 1.2", "server 1.3"])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Our role, and the version that the judge insists on."""
    role, version = str(request.param).split()
    return role, version


@pytest.fixture
def both(certificates: Certificates, kind: tuple[str, str]) -> Iterator[Both]:
    with connected(certificates, *kind) as ends:
        yield ends


def drain(ours: Transport) -> None:
    """Read what comes with the end of a handshake: tickets, in TLS 1.3."""
    while ours.read(100) is not None:
        pass


def await_bytes(ours: Transport, fin: bool = False) -> None:
    """Wait as a poller does, and tell `ours` of it."""
    assert select.select([ours], [], [], scaled(10.0))[0]
    ours.event(fin)


def test_handshake_brings_version_and_certificate(
    certificates: Certificates, both: Both, kind: tuple[str, str]
) -> None:
    ours, peer = both
    assert ours.version == "TLSv" + kind[1]
    assert "handshaking" not in ours.flags
    assert "readable" in ours.flags, "bytes may have come along with its end"
    assert ours.handshake(), "once more is fine"
    if kind[0] == "client":
        sent = ssl.PEM_cert_to_DER_cert(certificates.server.certificate.read_text())
        assert ours.peer_certificate() == sent
    else:
        assert ours.peer_certificate() is None
        assert peer.tls.getpeercert()


def test_bytes_come_out_as_they_went_in(both: Both) -> None:
    ours, peer = both
    message = os.urandom(100_000)
    assert send(ours, peer, message) == message
    assert send(peer, ours, message) == message


def test_one_byte_at_a_time_is_fine(both: Both) -> None:
    ours, peer = both
    message = bytes(range(256))
    assert send(ours, peer, message, size=1) == message
    assert send(peer, ours, message, size=1) == message


def test_read_takes_no_more_than_is_asked_for(both: Both) -> None:
    # What is left of a record brings no event: `readable` stays until it is gone.
    ours, peer = both
    drain(ours)
    assert peer.write(b"0123456789") == 10
    await_bytes(ours)
    assert ours.read(4) == b"0123"
    assert "readable" in ours.flags
    assert ours.read(4) == b"4567"
    assert "readable" in ours.flags
    assert ours.read(4) == b"89"
    assert ours.read(4) is None
    assert "readable" not in ours.flags, "the socket was found empty"


def test_bytes_that_come_while_others_wait_in_memory_are_not_overlooked(
    both: Both,
) -> None:
    ours, peer = both
    drain(ours)
    peer.write(b"one")
    peer.write(b"two")
    await_bytes(ours)
    assert ours.read(3) == b"one"  # and "two" was read ahead
    peer.write(b"three")
    await_bytes(ours)
    assert ours.read(3) == b"two"
    assert "readable" in ours.flags, "its event has come already"
    assert ours.read(10) == b"three"


def test_records_that_came_together_are_read_together(both: Both) -> None:
    ours, peer = both
    drain(ours)
    for piece in (b"a", b"bc", b"def"):
        peer.write(piece)
    await_bytes(ours)
    assert ours.read(100) == b"abcdef"
    assert "readable" not in ours.flags
    peer.write(b"g")
    await_bytes(ours, fin=True)
    assert ours.read(100) == b"g"
    assert "readable" in ours.flags, "a FIN may be behind it"


def test_large_transfers_go_both_ways_at_once(
    certificates: Certificates, kind: tuple[str, str]
) -> None:
    up, down = os.urandom(3_000_000), os.urandom(3_000_000)
    with connected(certificates, *kind, room=20_000) as (ours, peer):
        sent_up = sent_down = 0
        got_up, got_down = bytearray(), bytearray()

        def step() -> bool:
            nonlocal sent_up, sent_down
            sent_up += ours.write(up[sent_up : sent_up + 200_000])
            sent_down += peer.write(down[sent_down : sent_down + 200_000])
            got_up.extend(peer.read(70_000) or b"")
            got_down.extend(ours.read(70_000) or b"")
            return len(got_up) + len(got_down) == len(up) + len(down)

        spin(step, 50.0)
        assert got_up == up
        assert got_down == down


def test_full_socket_takes_nothing_and_then_the_same_bytes(
    certificates: Certificates, kind: tuple[str, str]
) -> None:
    message = os.urandom(2_000_000)
    with connected(certificates, *kind, room=8192) as (ours, peer):
        sent = 0
        while taken := ours.write(message[sent : sent + 50_000]):
            sent += taken
        assert "writable" not in ours.flags
        # The same bytes from elsewhere in memory: a buffer may have moved.
        got = bytearray()

        def step() -> bool:
            nonlocal sent
            got.extend(peer.read(65536) or b"")
            sent += ours.write(bytearray(message[sent : sent + 50_000]))
            return len(got) == len(message)

        spin(step, 30.0)
        assert got == message


def test_close_notify_is_an_end_and_the_other_way_stays_open(both: Both) -> None:
    ours, peer = both
    peer.write(b"last words")
    peer.end()
    assert read(ours) == b"last words"
    assert read(ours) == b""
    assert ours.read(10) == b"", "for good"
    assert "eof" in ours.flags
    assert "truncated" not in ours.flags
    assert ours.write(b"and ours") == 8


@pytest.mark.parametrize("how", ["goodbye", "cut"])
def test_end_that_comes_with_bytes_is_met_without_another_event(
    both: Both, how: str
) -> None:
    ours, peer = both
    drain(ours)
    peer.write(b"last words")
    if how == "goodbye":
        peer.end()
    else:
        with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)
    await_bytes(ours, fin=how == "cut")
    assert ours.read(100) == b"last words"
    assert "readable" in ours.flags, "nobody would read again"
    assert ours.read(100) == b""


def test_shut_sends_close_notify_and_the_other_way_stays_open(both: Both) -> None:
    ours, peer = both
    ours.write(b"bye")
    ours.shut()
    ours.shut()
    assert "shut" in ours.flags
    assert read(peer) == b"bye"
    assert read(peer) == b"", "an SSLEOFError, had it been a FIN only"
    if ours.version == "TLSv1.3":  # RFC 8446 6.1; earlier ones end both ways at once
        assert peer.write(b"answer") == 6
        assert read(ours) == b"answer"


def fill(ours: Transport, most: int = 1000) -> int:
    """Write records until one is not taken, or `most`; return how many were."""
    taken = 0
    while taken < most and ours.write(b"y" * 1000):
        taken += 1
    return taken


def test_shut_on_a_full_socket_waits_for_room(
    certificates: Certificates, kind: tuple[str, str]
) -> None:
    with connected(certificates, *kind, room=4096) as (ours, peer):
        most = fill(ours)
    with connected(certificates, *kind, room=4096) as (ours, peer):
        assert fill(ours, most) == most, "and not one more, nor a part of one"
        ours.shut()
        assert "shut later" in ours.flags
        assert "writable" not in ours.flags
        got = bytearray()

        def step() -> bool:
            data = peer.read(65536)
            got.extend(data or b"")
            ours.shut()
            return data == b""

        spin(step)
        assert len(got) == most * 1000
        assert "shut" in ours.flags


def test_fin_without_close_notify_is_a_truncation(both: Both) -> None:
    ours, peer = both
    peer.write(b"half a")
    # Past Python's TLS, which would say goodbye.
    with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)
    assert read(ours) == b"half a"
    assert read(ours) == b""
    assert {"eof", "truncated"} <= ours.flags
    assert "cut the connection" in ours.why
    with pytest.raises(OSError, match="cut the connection"):
        ours.write(b"nobody would understand this")


def test_reset_is_an_error_behind_the_bytes_before_it(both: Both) -> None:
    ours, peer = both
    with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
        peer.tls.close()
        send_reset(raw)
    with pytest.raises(ConnectionResetError):
        spin(lambda: ours.read(1) is None and False)
    with pytest.raises(ConnectionResetError):
        ours.read(1)


def test_write_after_goodbye_and_reset_is_an_error(both: Both) -> None:
    # OpenSSL tells of the goodbye once more: it was taken for a full socket, for good.
    ours, peer = both
    drain(ours)
    with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
        peer.end()
        assert read(ours) == b""
        peer.tls.close()
        send_reset(raw)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        spin(lambda: ours.write(b"x") and False)


def test_close_says_goodbye_and_reset_does_not(
    certificates: Certificates, kind: tuple[str, str]
) -> None:
    with connected(certificates, *kind) as (ours, peer):
        drain(ours)  # the kernel resets who closes with bytes unread
        ours.close()
        assert read(peer) == b""
    with connected(certificates, *kind) as (ours, peer):
        ours.close(reset=True)
        # Python's TLS takes it for an end.
        with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
            raw.setblocking(True)
            with pytest.raises(ConnectionResetError):
                list(iter(lambda: raw.recv(1000), b""))  # tickets, then that


def test_idle_survives_tickets_and_nothing_else(both: Both) -> None:
    # TLS 1.3 servers send tickets when they like: bytes in the socket, but no data.
    ours, peer = both
    assert ours.idle_ok()
    assert send(ours, peer, b"x") == b"x"
    assert ours.idle_ok()
    peer.write(b"unasked")
    spin(lambda: not ours.idle_ok())
    assert read(ours) == b"unasked"
    assert ours.idle_ok()
    peer.end()
    spin(lambda: not ours.idle_ok())


def test_broken_record_ends_it_and_is_never_data(both: Both) -> None:
    ours, peer = both
    with socket.socket(fileno=os.dup(peer.tls.fileno())) as raw:
        raw.send(b"\x17\x03\x03\x00\x40" + b"\0" * 64)
    with pytest.raises(OSError, match="bad record mac"):
        spin(lambda: ours.read(100) and False)
    with pytest.raises(OSError, match="bad record mac"):
        ours.read(100)
    with pytest.raises(OSError, match="bad record mac"):
        ours.write(b"x")
    assert not ours.idle_ok()
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        spin(lambda: peer.read(100) and False)


@settings(max_examples=25)
@given(
    message=st.binary(min_size=1, max_size=60_000),
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=10),
    version=st.sampled_from(["1.2", "1.3"]),
)
def test_any_sizes_of_reads_and_writes_are_a_copy(
    certificates: Certificates, message: bytes, sizes: list[int], version: str
) -> None:
    with connected(certificates, "client", version) as (ours, peer):
        got, sent, turn = b"", 0, 0
        while len(got) < len(message):
            size = sizes[turn % len(sizes)]
            turn += 1
            if sent < len(message):
                sent += peer.write(message[sent : sent + size])
            got += ours.read(size) or b""
        assert got == message
        assert ours.read(1) is None


def test_two_of_ours_understand_each_other(certificates: Certificates) -> None:
    one, other = tcp_pair()
    client = our_client(one, ClientContext(certificates.client_tls()))
    server = our_server(other, ServerContext(certificates.server_tls()))
    shake(client, server)
    message = os.urandom(300_000)
    assert send(client, server, message) == message
    assert send(server, client, message) == message
    client.shut()
    assert read(server) == b""
    server.close()
    client.close()
