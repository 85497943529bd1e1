"""Requests that two readers could read in two ways, through a bastion to its backend.

What is not plainly one request is refused, and of what stands behind it the backend
sees nothing; what a backend answers in two ways reaches no client as two responses.
Source: RFC 9112, 2.2, 5, 6 and 11.2; the facts, B15.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.bastion import Bastion, bastion, own_address
from tests.fakes.bastion_cluster import make_pod, make_service
from tests.support.bastion_rig import SPACE
from tests.support.servers import Server
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.adversity,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

RAW = f"{SPACE}/services/raw/proxy"
TOKEN = "Authorization: Bearer admin-token\r\n"
MARK = b"smuggled"
SECOND = f"GET {RAW}/smuggled HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUIET_S = 0.3  # long enough for what was sent on to arrive


class Tap(Server):
    """A backend that keeps every byte, and answers each head with the same bytes."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.answer = OK
        self.taken = b""
        self._mutex = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        """Answer until there is silence: no test leaves a connection to the next."""
        connection.settimeout(scaled(2 * QUIET_S))
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                with self._mutex:
                    self.taken += data
                for _ in range(data.count(b"\r\n\r\n")):
                    connection.sendall(self.answer)


@dataclass(frozen=True)
class Rig:
    """A bastion, and a Service that is a tap."""

    program: Bastion
    tap: Tap

    def send(self, text: str) -> bytes:
        """Send bytes over a new connection; return all that comes back."""
        self.tap.taken = b""
        with self.program.dial() as connection:
            connection.settimeout(scaled(QUIET_S))
            said = b""
            with contextlib.suppress(OSError):
                connection.sendall(text.encode("latin-1"))
                while data := connection.recv(65536):
                    said += data
            return said


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    with (
        Tap(own_address()) as tap,
        bastion(tmp_path_factory.mktemp("rig")) as (program, _, call),
    ):
        make_pod(call, "raw-0", own_address(), [])
        make_service(call, "raw", [("", 80, tap.address.port)], "raw-0", own_address())
        made = Rig(program, tap)
        plain = f"GET {RAW}/x HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"
        wait_until(lambda: b" 200 " in made.send(plain), 10.0, "the Service")
        yield made


def post(*lines: str, body: str = "", line: str = "") -> str:
    """Return a request whose head has these lines beside the usual ones."""
    first = line or f"POST {RAW}/x HTTP/1.1"
    head = "".join(f"{each}\r\n" for each in lines)
    return f"{first}\r\nHost: h\r\n{TOKEN}{head}\r\n{body}"


CHUNKED = "Transfer-Encoding: chunked"
EMPTY = "0\r\n\r\n"
HEADS = {
    "space before the colon": post("Content-Length : 4", body="abcd"),
    "tab before the colon": post("Transfer-Encoding\t: chunked", body=EMPTY),
    "no colon": post("Content-Length 4", body="abcd"),
    "unknown coding": post("Transfer-Encoding: xchunked", body=EMPTY),
    "coding after chunked": post("Transfer-Encoding: chunked, identity", body=EMPTY),
    "identity": post("Transfer-Encoding: identity", "Content-Length: 4", body="abcd"),
    "vertical tab": post("Transfer-Encoding: \x0bchunked", body=EMPTY),
    "form feed after": post("Transfer-Encoding: chunked\x0c", body=EMPTY),
    "chunked twice": post(CHUNKED, CHUNKED, body=EMPTY),
    "quoted": post('Transfer-Encoding: "chunked"', body=EMPTY),
    "empty coding": post("Transfer-Encoding:", body=EMPTY),
    "both framings": post("Content-Length: 4", CHUNKED, body=EMPTY),
    "both, other order": post(CHUNKED, "Content-Length: 4", body=EMPTY),
    "two lengths": post("Content-Length: 4", "Content-Length: 5", body="abcde"),
    "two lengths in one": post("Content-Length: 4, 5", body="abcde"),
    "signed length": post("Content-Length: +4", body="abcd"),
    "negative length": post("Content-Length: -4", body="abcd"),
    "hexadecimal length": post("Content-Length: 0x4", body="abcd"),
    "length with a space": post("Content-Length: 4 0", body="abcd"),
    "length with a letter": post("Content-Length: 4a", body="abcd"),
    "empty length": post("Content-Length:", body="abcd"),
    "length beyond 64 bits": post("Content-Length: 18446744073709551620", body="abcd"),
    "folded value": post("X: a", " b"),
    "folded coding": post("Transfer-Encoding:", " chunked", body=EMPTY),
    "folded first line": post(" X: a"),
    "bare LF": post("X: a\nContent-Length: 4", body="abcd"),
    "bare CR": post("X: a\rContent-Length: 4", body="abcd"),
    "NUL in a value": post("X: a\0b"),
    "NUL in a name": post("X\0Y: a"),
    "space in a name": post("X Y: a"),
    "colon first": post(": a"),
    "bracketed name": post("(x): a"),
    "two hosts": post("Host: other"),
    "two spaces": post(line=f"POST  {RAW}/x HTTP/1.1"),
    "tab in the first line": post(line=f"POST\t{RAW}/x HTTP/1.1"),
    "space in the target": post(line=f"POST {RAW}/x y HTTP/1.1"),
    "version of one digit": post(line=f"POST {RAW}/x HTTP/1"),
    "version 1.10": post(line=f"POST {RAW}/x HTTP/1.10"),
    "lower-case version": post(line=f"POST {RAW}/x http/1.1"),
    "control character": post(line=f"POST {RAW}/\x01 HTTP/1.1"),
    "preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.0 with a coding": post(CHUNKED, body=EMPTY, line=f"POST {RAW}/x HTTP/1.0"),
    "length on an upgrade": post(
        *("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 4"),
        body="abcd",
        line=f"GET {RAW}/x HTTP/1.1",
    ),
    "coding on an upgrade": post(
        *("Connection: Upgrade", "Upgrade: websocket", CHUNKED),
        body=EMPTY,
        line=f"GET {RAW}/x HTTP/1.1",
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_head_that_can_be_read_in_two_ways_is_refused(rig: Rig, name: str) -> None:
    said = rig.send(HEADS[name] + SECOND)
    assert said[9:12] in (b"400", b"501", b"505"), said
    assert said.count(b"HTTP/1.1 ") == 1  # and then no more
    assert rig.tap.taken == b""


BODIES = {
    "extension with a bare LF": "4;\nab\r\nabcd\r\n" + EMPTY,
    "size with a bare LF": "4\nabcd\r\n" + EMPTY,
    "signed size": "+4\r\nabcd\r\n" + EMPTY,
    "hexadecimal prefix": "0x4\r\nabcd\r\n" + EMPTY,
    "space before the size": " 4\r\nabcd\r\n" + EMPTY,
    "no size": "\r\nabcd\r\n" + EMPTY,
    "underscore": "0_4\r\nabcd\r\n" + EMPTY,
    "size beyond 64 bits": "10000000000000004\r\nabcd\r\n" + EMPTY,
    "no end of a chunk": "4\r\nabcdef\r\n" + EMPTY,
    "LF for the end of a chunk": "4\r\nabcd\n" + EMPTY,
    "trailer with a bare LF": "0\r\nX: a\nY: b\r\n\r\n",
    "trailer that is folded": "0\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_body_that_can_be_read_in_two_ways_ends_there(rig: Rig, name: str) -> None:
    rig.send(post(CHUNKED, body=BODIES[name]) + SECOND)
    assert MARK not in rig.tap.taken


def test_body_that_looks_like_a_request_is_a_body(rig: Rig) -> None:
    # What is plain must not be refused for what it holds.
    inner = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    for request in (
        post(f"Content-Length: {len(inner)}", body=inner),
        post(CHUNKED, body=f"{len(inner):x}\r\n{inner}\r\n{EMPTY}"),
    ):
        said = rig.send(request)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert rig.tap.taken.count(inner.encode()) == 1
        assert b"/smuggled HTTP/1.1\r\nHost: h\r\n\r\n" in rig.tap.taken


def test_request_behind_a_refused_upgrade_is_not_sent_on(rig: Rig) -> None:
    # CVE-2018-1002105: an upgrade that is answered otherwise leaves no tunnel.
    upgrade = post(
        *("Connection: Upgrade", "Upgrade: websocket"),
        line=f"GET {RAW}/up HTTP/1.1",
    )
    for status in ("400 Bad Request", "403 Forbidden", "500 Internal Server Error"):
        rig.tap.answer = f"HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nno!".encode()
        try:
            said = rig.send(upgrade + SECOND)
        finally:
            rig.tap.answer = OK
        assert said.startswith(f"HTTP/1.1 {status[:3]}".encode())
        assert said.endswith(b"no!")
        assert b"/up HTTP/1.1" in rig.tap.taken
        assert MARK not in rig.tap.taken


@pytest.mark.parametrize("status", [200, 300, 302, 307])
def test_upgrade_that_is_answered_otherwise_is_an_error_and_followed_nowhere(
    rig: Rig, status: int
) -> None:
    # CVE-2018-1002102, CVE-2020-8559.
    with Tap(own_address()) as elsewhere:
        where = f"http://{own_address()}:{elsewhere.address.port}/"
        head = f"HTTP/1.1 {status} X\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n"
        rig.tap.answer = head.encode()
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        try:
            said = rig.send(post(*upgrade, line=f"GET {RAW}/up HTTP/1.1"))
        finally:
            rig.tap.answer = OK
        assert elsewhere.accepted == 0
    assert said.startswith(b"HTTP/1.1 500 ")
    assert f"invalid upgrade response: status code {status}".encode() in said
    assert where.encode() not in said


GHOST = "HTTP/1.1 200 OK\r\nX-Ghost: 1\r\nContent-Length: 5\r\n\r\nghost"
RESPONSES = {
    "both framings": "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + GHOST,
    "two lengths": f"Content-Length: 0\r\nContent-Length: {len(GHOST)}\r\n\r\n" + GHOST,
    "more than was said": "Content-Length: 0\r\n\r\n" + GHOST,
    "space before the colon": "Content-Length : 0\r\n\r\n" + GHOST,
    "unknown coding": "Transfer-Encoding: xchunked\r\n\r\n" + GHOST,
    "folded": "X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + GHOST,
    "bare LF": "X: a\nContent-Length: 0\r\n\r\n" + GHOST,
    "NUL": "X: a\0b\r\nContent-Length: 0\r\n\r\n" + GHOST,
}


@pytest.mark.parametrize("name", RESPONSES)
def test_response_that_can_be_read_in_two_ways_is_never_two(
    rig: Rig, name: str
) -> None:
    rig.tap.answer = f"HTTP/1.1 200 OK\r\n{RESPONSES[name]}".encode("latin-1")
    one = f"GET {RAW}/one HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"
    try:
        rig.send(one)
        said = rig.send(one + one.replace("/one", "/two"))
    finally:
        rig.tap.answer = OK
    # As the head of a response, that is: it may be in the body of one without a length.
    assert b"\r\nX-Ghost: 1" not in said.partition(b"HTTP/1.1 200 OK\r\nX-Ghost")[0]
    assert not said.startswith(b"HTTP/1.1 200 OK\r\nX-Ghost")
    # Whoever comes next over the same kept connection gets an answer of its own.
    plain = rig.send(one)
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n")
    assert plain.endswith(b"ok")
