"""What a real kube-apiserver's own proxy answered, asked again of apiserver-proxy.

Every line of tests/golden/proxy-subresource.jsonl is sent. The answers must be the same
but for what DIFFERENCES says, and there they must not be.
"""

import json
import re
import socket
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bastion import Backend, Bastion, bastion, own_address
from tests.fakes.desk import Answer, hear
from tests.support.replay import DIRECTORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

LINES = [
    json.loads(text)
    for text in (DIRECTORY / "proxy-subresource.jsonl").read_text().splitlines()
]
# What is compared of a head; what a backend's server adds is its own.
HEADERS = (
    "access-control-allow-origin access-control-expose-headers access-control-max-age"
    " cache-control content-encoding content-type etag location set-cookie upgrade"
    " x-content-type-options x-frame-options x-up"
).split()
# What a backend sees of ours and not of the peer's: Go offers gzip by itself; we say
# more about where a request came from, and no client says it for us.
OURS = ("x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto")
GOS = ["accept-encoding", "gzip"]

RAW = "beyond: a path is passed on as it came (--clean-paths is as the peer does)"
HTML = "beyond: tags stay as they were written, and srcset is mapped"
STRICT = "stricter: what is not plainly a request is refused, with a text of ours"
NO_SLICE = "as 1.37: no EndpointSlice is a 503; 1.36 missed an Endpoints object"
PORT_80 = "what answered at port 80 of the recording's pods is not known"
DIFFERENCES = {
    "service single": "beyond: the only port of a Service needs no name",
    "service ext": NO_SLICE,
    "service web%3Aodd": RAW,
    "service web:80": PORT_80,
    "service web:u": PORT_80,
    "pod web-0": PORT_80,
    "pod web-0:8080": PORT_80,
    "pod multi:8080": PORT_80,
    "pod web-0:http": "beyond: ports have names; the peer crashes",
    "pod multi:odd": "beyond: ports have names; the peer crashes",
    "bare CONNECT": STRICT,
    "subpath CONNECT": STRICT,
    "path /a//b": RAW,
    "path /a/../b": RAW,
    "path /../../x": RAW,
    "path /a%2Fb": RAW,
    "path /a/./b/": RAW,
    "path /\xe9": STRICT,
    "path /a?dryRun=All": "beyond: dryRun is the backend's to understand",
    "double slash front": "the sandbox's apiserver says it in JSON",
    "response html": HTML,
    "response html-gzip": HTML + "; what is encoded stays so",
    "response html-zlib": HTML + "; the peer fails: it knows no wrapped deflate",
    "response html-raw-deflate": HTML + "; deflate goes in its wrapper",
    "response html-br": "beyond: passed on as it came; the peer fails",
    "html accept gzip": HTML,
    "HEAD html-gzip": "beyond: passed on as it came; the peer fails",
    "request headers": "Accept-Encoding names what pages can be rewritten in",
    "response cookie": "beyond: cookies come back to where they are from",
    "response cache": "beyond: the backend's Cache-Control stands alone",
    "response redir/bad": "a Location that is no URL is passed on",
    "upgrade": "beyond: the query is kept",
    "upgrade other": "beyond: protocols that nobody needs are not tunnelled",
    "upgrade refused": "the head of any answer has a Cache-Control",
    "framing two CL": STRICT,
    "framing CL and TE": STRICT,
    "framing odd TE": STRICT,
    "framing space colon": STRICT,
    "framing obs fold": STRICT,
    "framing big header": STRICT,
    "error accept application/vnd.kubernetes.protobuf": "left out: protobuf",
}


PAGES = {
    "response html": "",
    "response html-gzip": "gzip",
    "response html-zlib": "deflate",
    "response html-raw-deflate": "deflate",
    "html accept gzip": "",
}


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Bastion, Backend]]:
    """One for all lines; its pages are those of the recording."""
    page = next(d for d in LINES if d["note"] == "response plain")["response"]["body"]
    directory = tmp_path_factory.mktemp("golden")
    with bastion(directory, page=page.encode()) as (program, backend, _):
        yield program, backend


def adapted(text: str, backend: Backend) -> str:
    """Put addresses and ports of now where those of the recording are."""
    text = re.sub(r"10\.244\.77\.1\d", backend.host, text)
    for old, new in (("9999", backend.port), ("9443", backend.tls_port)):
        text = re.sub(rf"((?:web-0|/n1|:n1):){old}\b", rf"\g<1>{new}", text)
    return text


def send(program: Bastion, backend: Backend, line: Any) -> tuple[Answer, bytes]:
    """Send a recorded request; return the answer, and what a tunnel said then."""
    request = line["request"]
    lines = [adapted(each, backend) for each in request["headers"]]
    lines = [
        f"X-Big: {'a' * 1_100_000}" if each.startswith("X-Big:") else each
        for each in lines
    ]
    target = adapted(request["target"], backend)
    host, body = request["host"], request["body"].encode()
    every = [f"{request['method']} {target} HTTP/1.1", f"Host: {host}", *lines]
    if request["token"]:
        every.append(f"Authorization: Bearer {request['token']}")
    if body:
        every.append(f"Content-Length: {len(body)}")
    raw = "\r\n".join([*every, "", ""]).encode("latin-1") + body
    with program.dial() as connection:
        try:
            connection.sendall(raw)
        except OSError:
            assert "framing" in line["note"]
        if request["then"]:
            return tunnelled(connection, request["then"].encode())
        return hear(connection, request["method"]), b""


def tunnelled(connection: socket.socket, text: bytes) -> tuple[Answer, bytes]:
    """Return a head, and what comes through the tunnel up to `text` in capitals."""
    first, *lines = _until(connection, b"\r\n\r\n").decode().split("\r\n")[:-2]
    pairs = (each.partition(": ") for each in lines)
    headers = tuple((name.lower(), value) for name, _, value in pairs)
    answer = Answer(int(first.split()[1]), "", headers, b"", False)
    if answer.status != 101:
        return answer, b""
    connection.sendall(text)
    return answer, _until(connection, text.upper())


def _until(connection: socket.socket, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        chunk = connection.recv(1)
        assert chunk, read
        read += chunk
    return read


def golden_of(line: Any, backend: Backend) -> dict[str, Any]:
    """What was recorded, as it would be now."""
    response = line["response"]
    status = int((response["status"] or "HTTP/1.1 0").split()[1])
    headers = [(n.lower(), adapted(v, backend)) for n, v in response["headers"]]
    body = response["body"]
    text = adapted(body, backend) if isinstance(body, str) else repr(body)
    return compared(status, headers, text)


def compared(status: int, headers: Any, text: str) -> dict[str, Any]:
    """What is compared of an answer."""
    kept = sorted((n, v) for n, v in headers if n in HEADERS)
    found: Any = text
    if ("x-up", "1") in kept:
        found = json.loads(text or '{"headers": []}')
        found["headers"] = [
            pair
            for pair in found["headers"]
            if pair[0] not in OURS and pair != GOS and pair[0] != "content-length"
        ]
    if status == 101:
        found = text.replace(" -\n", "\n").replace(" chat\n", "\n")
    # Reasons are what the authorizer says.
    if isinstance(found, str):
        found = re.sub(r": proxy subresource changed to unsafeproxy", "", found)
    return {"status": status, "headers": kept, "body": found}


@pytest.mark.parametrize("line", LINES, ids=[line["note"] for line in LINES])
def test_line_is_answered_as_a_kube_apiserver_did(
    rig: tuple[Bastion, Backend], line: Any
) -> None:
    program, backend = rig
    expected = golden_of(line, backend)
    try:
        answer, then = send(program, backend, line)
    except (OSError, ValueError):
        if line["note"] not in DIFFERENCES:
            raise
        return
    text = (then or answer.body).decode("utf-8", "replace")
    got = compared(answer.status, answer.headers, text)
    if line["note"] in DIFFERENCES:
        assert got != expected, "no difference any more: take it off the table"
    else:
        assert got == expected


class Tags(HTMLParser):
    """What a page is made of, however it is written."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[object] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.found.append(data)

    def handle_comment(self, data: str) -> None:
        """Note a comment."""
        self.found.append(("comment", data))


@pytest.mark.parametrize("note", PAGES)
def test_page_has_the_urls_that_a_kube_apiserver_wrote(
    rig: tuple[Bastion, Backend], note: str
) -> None:
    program, backend = rig
    line, page = (
        next(each for each in LINES if each["note"] == name)
        for name in (note, "response html")
    )
    expected = Tags(adapted(page["response"]["body"], backend)).found
    answer, _ = send(program, backend, line)
    assert answer.get("content-encoding") == (PAGES[note] or None)
    bits = {"gzip": 31, "deflate": 15}.get(PAGES[note])
    plain = zlib.decompress(answer.body, bits) if bits else answer.body
    found = Tags(plain.decode()).found
    prefix = line["request"]["target"].rpartition("/")[0]
    # The one attribute that the peer leaves.
    mapped = f"'srcset', '{prefix}/a.png"
    assert str(found).replace(mapped, "'srcset', '/a.png") == str(expected)
    assert str(found) != str(expected)


def test_table_names_lines_that_there_are() -> None:
    assert DIFFERENCES.keys() <= {line["note"] for line in LINES}
    assert len({line["note"] for line in LINES}) == len(LINES)
    assert Path(DIRECTORY / "proxy-subresource.jsonl").exists()
