"""Records of exchanges, for an access log: what they say, and what they never say."""

import http.client
import threading
import time
from collections.abc import Iterator

import pytest

from fastpath import Engine, Http, Reply, Table, Vip
from fastpath.api.policy import Record
from tests.support.waiting import scaled, wait_until
from tests.support.web_rig import Web

AT = ("127.0.0.1", 0)
VIP = ("tcp", *AT)


class Logged:
    """An engine that answers everything with 200 and keeps the records."""

    def __init__(self, *, log: bool) -> None:
        self.engine = Engine(workers=1)
        self.engine.apply(Table([Vip(*AT, "tcp", http=Http(log=log))]))
        self.address = self.engine.address(VIP)
        self.records: list[Record] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()

    def _answer(self) -> None:
        while not self.stopping.wait(0.001):
            for question in self.engine.questions():
                self.engine.answer(question, Reply(200, b"hello"))
            self.records += self.engine.records()

    def get(self, target: str, headers: dict[str, str]) -> bytes:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=scaled(5))
        try:
            connection.request("GET", target, headers=headers)
            return connection.getresponse().read()
        finally:
            connection.close()

    def close(self) -> None:
        """End the thread, then the engine."""
        self.stopping.set()
        self.thread.join()
        self.engine.close()


@pytest.fixture
def logged() -> Iterator[Logged]:
    """One that logs."""
    logged = Logged(log=True)
    yield logged
    logged.close()


def test_record_tells_the_exchange_and_no_secret(logged: Logged) -> None:
    secrets = {"Authorization": "Bearer s3cret", "Cookie": "s3cret"}
    assert logged.get("/api/v1/pods?token=s3cret", secrets) == b"hello"
    wait_until(lambda: len(logged.records) == 1)
    (record,) = logged.records
    assert record.id > 0
    assert record._replace(took_us=0, began_us=0, id=0) == Record(
        vip=VIP,
        source="127.0.0.1",
        method="GET",
        path="/api/v1/pods",
        status=200,
        bytes_up=0,
        bytes_down=5,
        took_us=0,
    )
    assert "s3cret" not in repr(record)


def test_long_path_is_cut(logged: Logged) -> None:
    logged.get("/" + "x" * 5000, {})
    wait_until(lambda: len(logged.records) == 1)
    assert logged.records[0].path == "/" + "x" * 255


def test_without_log_nothing_is_recorded() -> None:
    logged = Logged(log=False)
    try:
        for _ in range(20):
            assert logged.get("/", {}) == b"hello"
        answered = {("GET", 200): 20}
        wait_until(lambda: logged.engine.stats().http[VIP].codes == answered)
        assert logged.records == []
    finally:
        logged.close()


def test_what_the_log_wants_of_a_request_is_recorded() -> None:
    names = ("user-agent", "x-none", "x-two")
    head = (
        b"GET http://h:1/a/%2f?x=1&y=%00 HTTP/1.1\r\nHost: h:1\r\nX-TWO: \xff\r\n"
        b"x-two: b\r\nUser-Agent: " + b"u" * 600 + b"\r\n\r\n"
    )
    with Web(lambda _: Reply(204), log=True, log_target=8192, log_headers=names) as web:
        before = time.monotonic()
        web.client(head).head()
        (record,) = recorded(web, 1)
        assert (record.path, record.query) == ("/a/%2f", "?x=1&y=%00")
        assert record.headers == ("u" * 512, None, "\xff")
        assert record.is_over
        assert not record.is_cut
        assert before - 1 < record.began_us / 1e6 < time.monotonic()


@pytest.mark.parametrize(
    ("path", "query", "left"),
    [
        ("/" + "p" * 98, "?", ("/" + "p" * 98, "?")),
        ("/" + "p" * 98, "?q", ("/" + "p" * 98, "?")),
        ("/" + "p" * 99, "?q", ("/" + "p" * 99, "")),
        ("/" + "p" * 200, "", ("/" + "p" * 99, "")),
    ],
)
def test_what_is_cut_off_a_target_is_told(
    path: str, query: str, left: tuple[str, str]
) -> None:
    with Web(lambda _: Reply(204), log=True, log_target=100) as web:
        web.client(f"GET {path}{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode()).head()
        (record,) = recorded(web, 1)
        assert (record.path, record.query) == left
        assert record.is_cut == (path + query != "".join(left))


def test_record_has_the_label_of_the_answer_remembered_or_not() -> None:
    labels = iter([2**64 - 1, 7])
    with Web(
        lambda _: Reply(204),
        key=(":path",),
        label=lambda _: next(labels),
        log=True,
    ) as web:
        for path in (b"/a", b"/a", b"/b", b"/a", b"/b"):
            web.client(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n").head()
        wanted = [2**64 - 1, 2**64 - 1, 7, 2**64 - 1, 7]
        found = recorded(web, 5)
        assert [record.label for record in found] == wanted
        assert len({record.id for record in found}) == 5


def test_tunnel_has_a_record_when_it_begins_and_one_when_it_ends() -> None:
    with Web(label=lambda _: 9, log=True) as web:
        client = web.client(
            b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        )
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        client.head()
        (began,) = recorded(web, 1)
        assert (began.status, began.is_over, began.label) == (101, False, 9)
        client.say(b"12345")
        assert upstream.exactly(5) == b"12345"
        client.end()
        upstream.close()
        (ended,) = recorded(web, 1)
        assert (ended.status, ended.is_over, ended.label) == (101, True, 9)
        assert ended.id == began.id
        assert ended.took_us >= began.took_us
        assert ended.bytes_up == 5


def test_request_whose_client_leaves_before_an_answer_is_recorded() -> None:
    # It may have been carried out all the same.
    with Web(lambda _: None, log=True) as web:
        client = web.client(b"GET /gone HTTP/1.1\r\nHost: h\r\n\r\n")
        web.question()
        client.close()
        (record,) = recorded(web, 1)
        assert (record.path, record.status, record.label) == ("/gone", 0, 0)


def test_records_that_nobody_takes_are_counted() -> None:
    count = 20_000
    ask = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    with Web(lambda _: Reply(204), log=True) as web:
        client = web.client(ask)
        client.head()
        sender = threading.Thread(target=client.say, args=(ask * (count - 1),))
        sender.start()
        for _ in range(count - 1):
            client.head()
        sender.join()
        wait_until(lambda: web.stats.codes == {("GET", 204): count})
        found: list[Record] = []

        def all_there() -> bool:
            found.extend(web.engine.records())
            return len(found) + web.stats.unrecorded == count

        wait_until(all_there)
        assert web.stats.unrecorded > 0


def recorded(web: Web, count: int) -> list[Record]:
    """The records that are there by now, once there are so many."""
    found: list[Record] = []

    def enough() -> bool:
        found.extend(web.engine.records())
        return len(found) >= count

    wait_until(enough, what=f"{count} records")
    assert len(found) == count
    return found
