"""What a scrape shows of HTTP, with the real core behind it."""

import asyncio
import http.client
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastpath.base.stats import PAGE_NAMES
from pyproxy.admin import Collector
from pyproxy.dataplane import Dataplane, Http, Question, Reply, upstream_of
from pyproxy.metrics import new_registry
from pyproxy.model import Pool, Vip
from tests.support.waiting import scaled, wait_until

NOBODY = Pool("none", ())


@pytest.fixture
def dataplane() -> Iterator[Dataplane]:
    """A core; closed with the test."""
    dataplane = Dataplane.open(1)
    yield dataplane
    dataplane.close()


def scrape(dataplane: Dataplane) -> dict[tuple[str, tuple[str, ...]], float]:
    """All samples, by name and values of labels."""
    registry = new_registry([Collector("kubectl-proxy", lambda: dataplane)])
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(address: tuple[str, int], method: str, path: str) -> int:
    """One request; its status."""
    connection = http.client.HTTPConnection(*address, timeout=scaled(5))
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_requests_are_counted_by_code_and_verb(dataplane: Dataplane) -> None:
    def answer(question: Question) -> None:
        status = 404 if question.path == "/no" else 200
        dataplane.answer(question, Reply(status), ttl_s=60.0, key=(":path",))

    dataplane.apply([Vip("127.0.0.1", 0, NOBODY, http=Http(key=(":path",)))])
    dataplane.watch(lambda kind, key: None, answer)
    where = dataplane.address(("tcp", "127.0.0.1", 0))
    for method, path in [("GET", "/"), ("GET", "/"), ("POST", "/"), ("GET", "/no")]:
        await asyncio.to_thread(ask, where, method, path)
    # A request is counted when its answer has gone, which the client may see before.
    spent = ("pyproxy_http_request_seconds_count", ())
    wait_until(lambda: scrape(dataplane)[spent] >= 4, what="all are counted")
    samples = scrape(dataplane)
    requests = "pyproxy_http_requests_total"
    assert samples[requests, ("200", "GET")] == 2
    assert samples[requests, ("200", "POST")] == 1
    assert samples[requests, ("404", "GET")] == 1
    assert samples[spent] == 4
    assert samples["pyproxy_verdicts_total", ("asked",)] == 2
    assert samples["pyproxy_verdicts_total", ("remembered",)] == 2
    assert samples["pyproxy_verdicts_total", ("unanswered",)] == 0
    assert samples["pyproxy_verdict_entries", ()] == 2
    assert samples["pyproxy_verdict_bytes", ()] > 0
    for name in ("verdicts_evicted", "verdicts_unkept", "http_records_lost"):
        assert samples[f"pyproxy_{name}_total", ()] == 0
    for name in ("http_limited", "http_pauses"):
        assert samples[f"pyproxy_{name}_total", ()] == 0
    for reason in ("kept-ended", "backend-failed"):
        assert samples["pyproxy_http_replays_total", (reason,)] == 0
    assert samples["pyproxy_quotas", ()] == 0
    assert samples["pyproxy_http_body_bytes_total", ("up",)] == 0
    assert samples["pyproxy_html_values_untouched_total", ()] == 0
    outcomes = {
        labels for name, labels in samples if name == "pyproxy_html_pages_total"
    }
    assert {*PAGE_NAMES} == {name for (name,) in outcomes}


def test_dials_to_addresses_of_verdicts_that_failed_are_counted(
    dataplane: Dataplane,
) -> None:
    dataplane.apply([], [upstream_of(Pool("place", ()), None)])
    assert "upstream_unreached" not in str(scrape(dataplane))  # nobody speaks HTTP
    dataplane.apply(
        [Vip("127.0.0.1", 0, NOBODY, http=Http())],
        [upstream_of(Pool("place", ()), None)],
    )
    assert scrape(dataplane)["pyproxy_upstream_unreached_total", ("place",)] == 0


def test_listeners_without_http_have_no_such_family(dataplane: Dataplane) -> None:
    dataplane.apply([Vip("127.0.0.1", 0, NOBODY)])
    assert not [name for name, _ in scrape(dataplane) if "http" in name]
