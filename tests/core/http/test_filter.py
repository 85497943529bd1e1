"""Edits of responses, from an upstream to a client."""

from typing import Any

import pytest

from fastpath import Forward, ResponseEdits, TableError
from tests.core.http.test_verdicts import request
from tests.support.web_rig import Peer, Web


def passed(edits: ResponseEdits, *lines: str, status: str = "200 OK") -> list[str]:
    """The lines that a client reads, if an upstream sends these."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "Content-Length: 2", "", ""])
    with Web(lambda _: Forward("up", response=edits)) as web:
        client = web.client(request())
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(head.encode() + b"ok")
        got = read_head(client)
        assert client.exactly(2) == b"ok"
    return got


def read_head(client: Peer) -> list[str]:
    """The lines of a head."""
    while b"\r\n\r\n" not in client.left:
        client.left += client.socket.recv(65536)
    head, _, client.left = client.left.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n")


def test_headers_are_removed_set_and_given() -> None:
    edits = ResponseEdits(
        remove=("Access-Control-Allow-Origin", "x-gone"),
        set=(("X-Set", "1"), ("X-Set", "2")),
        default=(("Cache-Control", "no-cache"), ("X-Given", "yes"), ("X-Void", "no")),
    )
    assert passed(
        edits,
        "access-control-allow-origin: *",
        "X-Gone: a",
        "X-gone: b",
        "X-Stays: c",
        "x-set: 0",
        "cache-control: max-age=1",
        "x-void:",
    ) == [
        "HTTP/1.1 200 OK",
        "X-Stays: c",
        "cache-control: max-age=1",
        "Content-Length: 2",
        "X-Set: 1",
        "X-Set: 2",
        "X-Given: yes",
        "X-Void: no",
    ]


def test_every_line_is_mapped() -> None:
    edits = ResponseEdits(location=(("/", "/p"),), cookie_path="/p")
    lines = passed(
        edits,
        "Location: /a",
        "Set-Cookie: a=1; Path=/; Domain=x.example; Secure",
        "location: /b",
        "set-cookie: b=2",
        "Content-Location: /c",
        status="302 Found",
    )
    assert lines[1:-1] == [
        "Location: /p/a",
        "Set-Cookie: a=1; Path=/p/; Secure",
        "location: /p/b",
        "set-cookie: b=2; Path=/p",
        "Content-Location: /p/c",
    ]


def test_url_of_the_backend_that_was_dialled_is_the_upstreams() -> None:
    edits = ResponseEdits(location=(("/", "/p"),))
    with Web(lambda _: Forward("up", response=edits)) as web:
        client = web.client(request())
        upstream = web.upstreams.accept()
        upstream.head()
        where = "http://{}:{}/x".format(*web.upstreams.address)
        upstream.say(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\n\r\n".encode())
        assert read_head(client)[1] == "Location: /p/x"


def test_informational_responses_are_passed_on_as_they_are() -> None:
    edits = ResponseEdits(remove=("Link",), set=(("X-Set", "1"),))
    with Web(lambda _: Forward("up", response=edits)) as web:
        client = web.client(request())
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        assert read_head(client) == ["HTTP/1.1 103 Early Hints", "Link: </x>"]
        upstream.say(b"HTTP/1.1 204 No\r\nLink: </x>\r\n\r\n")
        assert read_head(client) == ["HTTP/1.1 204 No", "X-Set: 1"]


@pytest.mark.parametrize("edited", [True, False])
def test_switch_of_protocols_is_edited_if_that_is_asked(edited: bool) -> None:
    edits = ResponseEdits(set=(("X-Set", "1"),), upgrades=edited)
    with Web(lambda _: Forward("up", upgrades=None, response=edits)) as web:
        client = web.client(request(Connection="Upgrade", Upgrade="websocket"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(
            b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi"
        )
        lines = ["HTTP/1.1 101 Go", "Upgrade: websocket", "Connection: Upgrade"]
        assert read_head(client) == [*lines, *["X-Set: 1"] * edited]
        assert client.exactly(2) == b"hi"


def test_head_that_outgrows_its_buffer_is_an_error_of_the_upstream() -> None:
    edits = ResponseEdits(location=(("/", "/p"),), cookie_path="/" + "x" * 4000)
    with Web(lambda _: Forward("up", response=edits)) as web:
        client = web.client(request())
        upstream = web.upstreams.accept()
        upstream.head()
        cookie = b"Set-Cookie: a=1" + b"; Path=/" * 1000 + b"\r\n"
        upstream.say(b"HTTP/1.1 200 OK\r\n" + cookie + b"\r\n")
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "framing": ({"set": (("Content-Length", "1"),)}, "edits"),
    "remove": ({"remove": ("Transfer-Encoding",)}, "edits"),
    "value": ({"default": (("a", "\n"),)}, "value of a"),
    "relative": ({"location": (("a", "/b"),)}, "no path"),
    "query": ({"location": (("/a", "/b?c"),)}, "no path"),
    "escape": ({"location": (("/a", "/b%2"),)}, "no path"),
    "dots": ({"location": (("/a", "/b/../c"),)}, "dot segments"),
    "many": ({"location": (("/a", "/b"),) * 17}, "over 16"),
    "long": ({"cookie_path": "/" + "a" * 4096}, "more than 4096"),
    "cookie": ({"cookie_path": "/a;b"}, "semicolon"),
    "host": ({"hosts": ("a,b",)}, "no authority"),
}


@pytest.mark.parametrize("name", WRONG)
def test_edit_that_cannot_be_meant_is_refused(name: str) -> None:
    words, why = WRONG[name]
    with pytest.raises(TableError, match=why):
        ResponseEdits(**words)


def test_headers_are_removed_by_how_their_names_begin() -> None:
    edits = ResponseEdits(
        remove=("X-Remote-*",), set=(("X-Remote-Kept", "ours"),), default=(("A", "1"),)
    )
    long = "X-Remote-" + "a" * 80
    assert passed(
        edits, "X-Remote-User: a", "x-REMOTE-b: b", f"{long}: c", "X-Remote: d", "X: e"
    ) == [
        "HTTP/1.1 200 OK",
        "X-Remote: d",
        "X: e",
        "Content-Length: 2",
        "X-Remote-Kept: ours",
        "A: 1",
    ]


@pytest.mark.parametrize("name", ["*", "a*", "-*-", "a-*b", "content-*", "Transfer-*"])
def test_prefix_that_is_none_or_has_framing_in_it_is_refused(name: str) -> None:
    with pytest.raises(TableError):
        Forward("up", remove=(name,))
