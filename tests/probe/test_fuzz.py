"""A probe reads what strangers send. Whatever that is, it ends with a finding."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.probe import Result, Target, probe
from tests.support.servers import ScriptedServer

pytestmark = pytest.mark.live

# Pieces of HTTP in any order, so that most answers come close to being one.
PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.0 ",
    b"HTTP/2 200\r\n",
    b"200",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"[-]etcd failed: reason withheld\n",
    b": ",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"x" * 20_000,
]
ANSWERS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=40), max_size=8).map(
    b"".join
)
# RFC 9112, 4: the status line; interim heads may stand before the final one.
READY = re.compile(
    rb"(?:HTTP/1\.[01] 1\d\d[^\r\n]*\r\n(?:.*?\r\n)??\r\n)*HTTP/1\.[01] 200[ \r]",
    re.DOTALL,
)


class Answerer:
    """A server that says the next answer, whatever it was asked."""

    def __init__(self) -> None:
        self.answer = b""

    def speak(self, connection: socket.socket) -> None:
        """Read a request, answer, end."""
        connection.recv(65536)
        with contextlib.suppress(OSError):  # a probe that knows enough hangs up
            connection.sendall(self.answer)


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    """One for all examples."""
    return Answerer()


@pytest.fixture(scope="module")
def target(answerer: Answerer) -> Iterator[Target]:
    """The server to probe."""
    with ScriptedServer(answerer.speak) as server:
        yield Target(server.address, "fuzz", "http", timeout_s=5.0)


@given(answer=ANSWERS)
def test_any_answer_ends_in_a_finding(
    answerer: Answerer, target: Target, answer: bytes
) -> None:
    answerer.answer = answer
    finding = asyncio.run(probe(target))
    assert finding.why
    assert len(finding.why) < 500, "an answer is quoted in part only"
    if finding.result is Result.READY:
        assert READY.match(answer), "ready without a status line that says so"
