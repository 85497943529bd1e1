"""Records of exchanges, for an access log: what they say, and what they never say."""

import http.client
import threading
from collections.abc import Iterator

import pytest

from fastpath import Engine, Http, Reply, Table, Vip
from fastpath.api.policy import Record
from tests.support.waiting import scaled, wait_until

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
    assert record._replace(took_us=0) == Record(
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
