"""The sandbox's API server answers as a real one did: recorded exchanges, replayed.

Compared are status, headers, every field of every document and event, and managedFields
but for their times; for Status objects also the order of fields and the length in
bytes. Not compared is what a server hands out (tests/support/replay.py): uids,
revisions, times, addresses and ports that were allocated, continue tokens, nor the
texts that describe columns of a Table. What else differs stands in one table below. The
same holds for a real kube-apiserver where there is one.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pyproxy.sandbox.apiserver import Apiserver
from tests.fakes.apiserver import authority
from tests.support import realcluster
from tests.support.replay import (
    UNCOMPARED_HEADERS,
    Answer,
    Exchange,
    Replay,
    exchanges,
    normal,
)

pytestmark = pytest.mark.live

EXCHANGES = list(exchanges())
CHURN = 120  # changes between the 25th and the 26th line of list-and-watch
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
ADMIN = {"Authorization": "Bearer admin-token"}
FAST = 0.05  # a second of a watch's timeout, in the sandbox

Edit = Callable[[Any, Any], tuple[Any, Any]]


def without(*names: str) -> Edit:
    """Leave these fields out of account, wherever they are."""

    def drop(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: drop(v) for k, v in value.items() if k not in names}
        return [drop(item) for item in value] if isinstance(value, list) else value

    return lambda golden, ours: (drop(golden), drop(ours))


def only_those_served(field: str) -> Edit:
    """Of a list of what there is, each that we have must be as it was there."""

    def edit(golden: Any, ours: Any) -> tuple[Any, Any]:
        names = [item["name"] for item in ours[field]]
        assert names
        kept = [item for item in golden[field] if item["name"] in names]
        kept.sort(key=lambda item: names.index(item["name"]))
        return {**golden, field: kept}, ours

    return edit


def first_and_last_line(golden: Any, ours: Any) -> tuple[Any, Any]:
    """Of a report, only how it begins and ends."""
    first, second = golden.splitlines(), ours.splitlines()
    return (first[0], first[-1]), (second[0], second[-1])


def nothing(golden: Any, ours: Any) -> tuple[Any, Any]:
    """Compare status and headers alone."""
    return None, None


ACCOUNT = ("serviceAccountName", "serviceAccount")
NO_ACCOUNTS = "recorded without controllers, so without default ServiceAccounts"
BUILD = ("gitVersion", "gitCommit", "buildDate", "goVersion", "compiler")

# What differs, how much of the line is still compared, and why no client minds.
KNOWN: dict[str, tuple[Edit, str]] = {
    "discovery-and-auth:1": (without(*BUILD), "another build says what it is"),
    "discovery-and-auth:3": (only_those_served("groups"), "we serve fewer groups"),
    "discovery-and-auth:4": (only_those_served("resources"), "and fewer resources"),
    "discovery-and-auth:10": (first_and_last_line, "other parts, other checks"),
    "discovery-and-auth:19": (without(*BUILD), "another build says what it is"),
    "objects:43": (without("f:ports"), "an empty list that was sent is owned there"),
    "objects:45": (without("renewTime"), "recorded wrongly: it shows the next renewal"),
    "list-and-watch:30": (nothing, "configuration of the recorded server itself"),
    "clients:62": (without("message"), "a parser's own words"),
    "clients:91": (without(*ACCOUNT), NO_ACCOUNTS),
    "clients:95": (without("message"), "it goes on with a diff of Go structs"),
    "clients:96": (without(*ACCOUNT), NO_ACCOUNTS),
    "clients:101": (without(*ACCOUNT), NO_ACCOUNTS),
    "clients:104": (without(*ACCOUNT), NO_ACCOUNTS),
}


@dataclass(frozen=True)
class Server:
    """A server under replay."""

    url: str
    ca: Path
    forget: Callable[[], None]  # what was, as a restart and a compaction make it


async def replay(server: Server) -> dict[str, Answer]:
    """Send everything in order and return the answers."""
    client = Replay(server.url, server.ca)
    found = {}
    async with client.session() as session:
        for exchange in EXCHANGES:
            if exchange.id == "list-and-watch:26":
                await churn(session, server.url)
            elif exchange.id == "list-and-watch:31":
                await asyncio.to_thread(server.forget)
            found[exchange.id] = await client.send(session, exchange)
    return found


async def churn(session: aiohttp.ClientSession, url: str) -> None:
    """Make as many revisions as there were, of something that is not looked at."""
    lease = {"metadata": {"name": "churn"}}
    async with session.post(url + LEASES, headers=ADMIN, json=lease) as answer:
        assert answer.status == 201
    merge = {**ADMIN, "Content-Type": "application/merge-patch+json"}
    for number in range(CHURN - 1):
        patch = json.dumps({"metadata": {"labels": {"n": str(number)}}})
        async with session.patch(
            f"{url}{LEASES}/churn", headers=merge, data=patch
        ) as answer:
            assert answer.status == 200


async def replay_sandbox(directory: Path) -> dict[str, Answer]:
    """Replay against the sandbox's server, in this process."""
    issuer = authority(directory)
    pair = issuer.issue("apiserver", ["127.0.0.1"])
    ca = issuer.certificate
    async with Apiserver(pair, ca, is_populated=False, second=FAST) as apiserver:
        forget = apiserver.cluster.store.compact
        return await replay(Server(apiserver.url, ca, forget))


async def replay_real(directory: Path) -> dict[str, Answer]:
    """Replay against kube-apiserver."""
    with realcluster.RealCluster(directory) as cluster:

        def forget() -> None:
            cluster.compact()
            cluster.restart()

        return await replay(Server(cluster.url, cluster.ca, forget))


@pytest.fixture(scope="module")
def sandbox_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Everything the sandbox answers."""
    return run(replay_sandbox(tmp_path_factory.mktemp("sandbox")))


@pytest.fixture(scope="module")
def real_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Everything a real kube-apiserver answers."""
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    return run(replay_real(tmp_path_factory.mktemp("real")))


def run(work: Coroutine[Any, Any, dict[str, Answer]]) -> dict[str, Answer]:
    """Run a whole replay."""
    return asyncio.run(work)


def compare(exchange: Exchange, answer: Answer) -> None:
    """Fail where an answer is not what was recorded."""
    golden, response = exchange.golden, exchange.response
    expected, came = normal(golden), normal(answer.body)
    if exchange.id in KNOWN:
        edit, _ = KNOWN[exchange.id]
        expected, came = edit(expected, came)
    assert answer.status == response["status"]
    assert came == expected
    headers = {
        k: v for k, v in response["headers"].items() if k not in UNCOMPARED_HEADERS
    }
    assert {name: answer.headers.get(name) for name in headers} == headers
    if isinstance(golden, dict) and golden.get("kind") == "Status":
        assert json.dumps(came) == json.dumps(expected)  # in this order, too
        if golden == answer.body:
            assert len(answer.raw) == int(response["headers"]["content-length"])


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.id)
def test_sandbox_answers_as_recorded(
    sandbox_answers: dict[str, Answer], exchange: Exchange
) -> None:
    compare(exchange, sandbox_answers[exchange.id])


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.id)
def test_real_apiserver_answers_as_recorded(
    real_answers: dict[str, Answer], exchange: Exchange
) -> None:
    compare(exchange, real_answers[exchange.id])


def test_every_known_difference_is_one(sandbox_answers: dict[str, Answer]) -> None:
    # An entry that is not needed any more would hide the next difference.
    for exchange in EXCHANGES:
        if exchange.id in KNOWN:
            came = normal(sandbox_answers[exchange.id].body)
            assert came != normal(exchange.golden), exchange.id
