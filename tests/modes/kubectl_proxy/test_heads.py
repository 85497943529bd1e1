"""Heads as servers and clients really send them, through the whole proxy.

Issue 11, items 9, 25 and 26; `kubectl proxy` passes each.
"""

import socket

import pytest

from tests.fakes.desk import Desk, either
from tests.fakes.office import Office
from tests.fakes.recorder import Seen, reply
from tests.support.web_rig import Peer

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test

POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET /b HTTP/1.1\r\nHost: localhost\r\n\r\n"


@either
@pytest.mark.parametrize(
    "lines",
    [["Warning: 299 - x"] * 120, [f"X-{n}: {'x' * 1000}" for n in range(250)]],
    ids=["120 warnings", "250 KB"],
)
def test_large_head_of_an_applied_write_is_passed_on(
    office: Office, kind: type[Desk], lines: list[str]
) -> None:
    office.upstream.answer = reply("201 Created", b"{}", *lines)
    with office.proxy(kind) as proxy, proxy.dial() as connection:
        client = Peer(connection)
        client.say(POST)
        first, headers = client.head()
        assert first == "HTTP/1.1 201 Created"
        assert client.exactly(int(headers["content-length"])) == b"{}"
    names = {line.split(":")[0].lower() for line in lines}
    assert sum(name in names for name in client.names) == len(lines)


def test_larger_head_is_called_too_large(office: Office) -> None:
    lines = [f"X-{n}: {'x' * 1000}" for n in range(300)]
    office.upstream.answer = reply("201 Created", b"{}", *lines)
    with office.proxy(Desk) as proxy:
        answer = proxy.say(POST, "POST")
    assert answer.status == 500
    assert b"response head is too large" in answer.body


@either
def test_empty_line_behind_a_body_is_ignored(office: Office, kind: type[Desk]) -> None:
    office.upstream.answer = reply("200 OK", b"{}")
    with office.proxy(kind) as proxy, proxy.dial() as connection:
        client = Peer(connection)
        client.say(POST + b"\r\n" + GET)
        assert client.sized() == ("HTTP/1.1 200 OK", b"{}")
        assert client.sized() == ("HTTP/1.1 200 OK", b"{}")
    assert [seen.target for seen in office.upstream.seen] == ["/a", "/b"]


@either
def test_interim_response_with_a_length_is_no_end(
    office: Office, kind: type[Desk]
) -> None:
    def hint(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n")
        connection.sendall(reply("200 OK", b"{}"))

    office.upstream.answer = hint
    with office.proxy(kind) as proxy, proxy.dial() as connection:
        client = Peer(connection)
        client.say(GET)
        first, headers = client.head()
        if first == "HTTP/1.1 103 Early Hints":
            first, headers = client.head()
        assert first == "HTTP/1.1 200 OK"
        assert client.exactly(int(headers["content-length"])) == b"{}"
