"""Random exchanges through the core, with h11 as the judge at both ends.

What the upstream saw is what the client said, and the other way round: method, target,
headers, body, trailers, in order, however the bytes were cut and whether or not the
client waited for an answer before it went on.
"""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath import Forward
from tests.support.servers import CHUNK, Server
from tests.support.web_rig import Web

# To make a failing case small takes longer than any test.
pytestmark = [pytest.mark.hypothesis, pytest.mark.timeout(400)]

Pairs = list[tuple[bytes, bytes]]
OURS = {b"host", b"connection", b"transfer-encoding", b"content-length", b"x-number"}


class Body(NamedTuple):
    """A body, as its sender cuts it."""

    chunked: bool
    parts: list[bytes]
    trailers: Pairs

    @property
    def framing(self) -> Pairs:
        if self.chunked:
            return [(b"Transfer-Encoding", b"chunked")]
        return [(b"Content-Length", b"%d" % sum(map(len, self.parts)))]

    @property
    def events(self) -> list[h11.Event]:
        end = h11.EndOfMessage(headers=self.trailers if self.chunked else [])
        return [*(h11.Data(data=part) for part in self.parts), end]


class Case(NamedTuple):
    """An exchange."""

    method: bytes
    target: bytes
    headers: Pairs
    body: Body | None
    hints: int  # 1xx before the response
    status: int
    answer_headers: Pairs
    answer: Body

    @property
    def silent(self) -> bool:
        """Whether the response has no body, whatever its head says."""
        return self.method == b"HEAD" or self.status in (204, 304)


class Seen(NamedTuple):
    """A message as its receiver understood it."""

    what: tuple[object, ...]
    headers: Pairs
    body: bytes
    trailers: Pairs


NAMES = st.sampled_from([b"X-One", b"accept", b"X-Two", b"Cookie", b"x-forwarded-for"])
VALUES = st.text('ab ,;="\xe4\t:', max_size=20).map(
    lambda v: v.strip().encode("latin1")
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
TRAILERS = st.lists(
    st.tuples(st.sampled_from([b"X-End", b"x-sum"]), VALUES), max_size=2
)
PARTS = st.lists(
    st.builds(
        lambda byte, n: byte * n,
        st.binary(min_size=1, max_size=3),
        st.integers(1, 9000),
    ),
    max_size=4,
)
BODIES = st.builds(Body, st.booleans(), PARTS, TRAILERS)
CASES = st.builds(
    Case,
    method=st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS"]),
    target=st.sampled_from([b"/", b"/a%2Fb?c=d;e&&", b"/%", b"*", b"http://b:1/x?"]),
    headers=HEADERS,
    body=st.none() | BODIES,
    hints=st.integers(0, 2),
    status=st.sampled_from([200, 201, 204, 304, 404, 500]),
    answer_headers=HEADERS,
    answer=BODIES,
).filter(lambda case: case.target != b"*" or case.method == b"OPTIONS")
CUTS = st.lists(st.integers(1, 20_000), min_size=1, max_size=5)


def plain(headers: object) -> Pairs:
    """Headers that are neither framing nor the test's own, by lower-case name."""
    pairs = [(bytes(n).lower(), bytes(v)) for n, v in headers]  # type: ignore[attr-defined]
    return [(name, value) for name, value in pairs if name not in OURS]


def expected(headers: Pairs) -> Pairs:
    """What `plain` makes of headers that were sent."""
    return [(name.lower(), value) for name, value in headers]


def said(connection: h11.Connection, *events: h11.Event) -> bytes:
    """What it takes to say this."""
    return b"".join(connection.send(event) or b"" for event in events)


def send(to: socket.socket, data: bytes, cuts: list[int]) -> None:
    """Send in pieces, of these sizes again and again."""
    sizes = itertools.cycle(cuts)
    while data:
        size = next(sizes)
        to.sendall(data[:size])
        data = data[size:]


def events(connection: h11.Connection, source: socket.socket) -> Iterator[h11.Event]:
    """Read up to the end of one message."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(source.recv(CHUNK))
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError
        else:
            assert isinstance(event, h11.Event)
            yield event
            if isinstance(event, h11.EndOfMessage):
                return


def understood(found: list[h11.Event], what: tuple[object, ...]) -> Seen:
    """Put a message together."""
    (head,) = (e for e in found if isinstance(e, h11.Request | h11.Response))
    body = b"".join(bytes(e.data) for e in found if isinstance(e, h11.Data))
    (end,) = (e for e in found if isinstance(e, h11.EndOfMessage))
    return Seen(what, plain(head.headers), body, plain(end.headers))


class Judge(Server):
    """An upstream that answers the n-th request as the n-th case says."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: list[Case] = []
        self.cuts = [1]
        self.seen: dict[int, Seen] = {}

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        judge = h11.Connection(h11.SERVER)
        while True:
            found = list(events(judge, connection))
            head = found[0]
            assert isinstance(head, h11.Request)
            number = int(dict(head.headers)[b"x-number"])
            what = (head.method, head.target, dict(head.headers)[b"host"])
            self.seen[number] = understood(found, what)
            send(connection, self._answer(judge, self.cases[number]), self.cuts)
            judge.start_next_cycle()

    def _answer(self, judge: h11.Connection, case: Case) -> bytes:
        framing = [] if case.status in (204, 304) else case.answer.framing
        headers = [*case.answer_headers, *framing]
        hints = [
            h11.InformationalResponse(status_code=103, headers=[(b"Link", b"%d" % n)])
            for n in range(case.hints)
        ]
        head = h11.Response(status_code=case.status, headers=headers, reason=b"So")
        body = [h11.EndOfMessage()] if case.silent else case.answer.events
        return said(judge, *hints, head, *body)


def ask(number: int, case: Case) -> tuple[h11.Connection, bytes]:
    """Send a request; the sender will understand the response."""
    client = h11.Connection(h11.CLIENT)
    framing = case.body.framing if case.body else []
    headers = [(b"Host", b"a"), (b"X-Number", b"%d" % number), *case.headers, *framing]
    head = h11.Request(method=case.method, target=case.target, headers=headers)
    body = case.body.events if case.body else [h11.EndOfMessage()]
    return client, said(client, head, *body)


def check(number: int, case: Case, seen: Seen, found: list[h11.Event]) -> None:
    """Whether both sides understood what the other one said."""
    is_absolute = case.target.startswith(b"http://")
    target = b"/x?" if is_absolute else case.target
    assert seen.what == (case.method, target, b"b:1" if is_absolute else b"a"), number
    assert seen.headers == expected(case.headers)
    body = case.body or Body(False, [], [])
    assert seen.body == b"".join(body.parts)
    assert seen.trailers == (expected(body.trailers) if body.chunked else [])
    hints = [e for e in found if isinstance(e, h11.InformationalResponse)]
    assert [e.headers[0][1] for e in hints] == [b"%d" % n for n in range(case.hints)]
    head = found[len(hints)]
    assert isinstance(head, h11.Response)
    got = understood(found, ())
    assert (head.status_code, bytes(head.reason)) == (case.status, b"So")
    assert got.headers == expected(case.answer_headers)
    answer = Body(False, [], []) if case.silent else case.answer
    assert got.body == b"".join(answer.parts)
    assert got.trailers == (expected(answer.trailers) if answer.chunked else [])


def converse(
    client: socket.socket, cases: list[Case], cuts: list[int], wait: bool
) -> list[list[h11.Event]]:
    """Say all requests, at once or one after the other, and hear all responses."""
    asked = [ask(number, case) for number, case in enumerate(cases)]
    whole = [data for _, data in asked] if wait else [b"".join(d for _, d in asked)]
    heard, left = [], b""
    for speaker, _ in asked:
        thread = None
        if whole:
            thread = threading.Thread(target=send, args=[client, whole.pop(0), cuts])
            thread.start()
        if left:
            speaker.receive_data(left)
        heard.append(list(events(speaker, client)))
        left = speaker.trailing_data[0]
        if thread is not None and wait:
            thread.join()
    assert left == b""
    return heard


@given(data=st.data())
def exchanges_are_understood(web: Web, judge: Judge, data: st.DataObject) -> None:
    judge.cases = data.draw(st.lists(CASES, min_size=1, max_size=6))
    judge.cuts = data.draw(CUTS)
    judge.seen.clear()
    cuts, wait = data.draw(CUTS), data.draw(st.booleans())
    with socket.create_connection(web.address, 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heard = converse(client, judge.cases, cuts, wait)
    for number, case in enumerate(judge.cases):
        check(number, case, judge.seen[number], heard[number])


@pytest.mark.slow
@pytest.mark.parametrize("remembered", [True, False])
def test_both_sides_understand_what_the_other_one_said(remembered: bool) -> None:
    with contextlib.ExitStack() as stack:
        judge = stack.enter_context(Judge())
        ttl_s = 60.0 if remembered else 0.0
        web = Web(lambda _: Forward("up"), ttl_s=ttl_s, backends=[judge.address])
        exchanges_are_understood(stack.enter_context(web), judge)
