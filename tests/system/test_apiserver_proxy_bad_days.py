"""apiserver-proxy on bad days: an apiserver with moods, tokens that end, many of them.

Source of what is expected: issue 12, "Bad input and bad days", and the facts, B15.
"""

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import Backend, Bastion, ask, bastion, own_address
from tests.fakes.bastion_cluster import (
    MERGE,
    NAMESPACE,
    Call,
    make_pod,
    make_service,
)
from tests.fakes.desk import Answer
from tests.fakes.recorder import Recorder
from tests.fakes.reviewer import PATH, REVIEWS
from tests.support.bastion_rig import SPACE, WEB, grant, message
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.adversity,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]

ALICE = "alice-token"  # may get the Service, no more
TTL_S = 4  # seconds
LIVES = (
    f"--authentication-token-webhook-cache-ttl={TTL_S}s",
    f"--authorization-webhook-cache-authorized-ttl={TTL_S}s",
    f"--authorization-webhook-cache-unauthorized-ttl={TTL_S}s",
)
NO_ANSWER = "there is no answer to the question"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


@dataclass(frozen=True)
class Rig:
    """A bastion whose apiserver has moods."""

    program: Bastion
    backend: Backend
    call: Call
    directory: Path

    def ask(self, target: str = f"{WEB}/x", **more: Any) -> Answer:
        """Send a request, as alice if nobody else is named."""
        return self.program.ask(target, **{"token": ALICE, **more})

    def mood(self, **mood: object) -> None:
        """Set the mood of the apiserver; none = good."""
        self.call("POST", PATH, mood)

    def counts(self) -> dict[str, int]:
        """Return what it has been asked for."""
        return dict(self.call("GET", PATH))

    def reviews(self) -> int:
        """Return how many reviews that were."""
        counts = self.counts()
        return sum(counts[what] for what in REVIEWS)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One for each: apiservers end here."""
    directory = tmp_path / "rig"
    module = "tests.fakes.reviewer"
    with bastion(directory, *LIVES, apiserver=module) as (program, backend, call):
        grant(call)
        yield Rig(program, backend, call, directory)


@contextlib.contextmanager
def under_load(one: Callable[[], int], threads: int = 4) -> Iterator[list[int]]:
    """Let threads do something over and over; collect what it returns."""
    seen: list[int] = []
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            seen.append(one())

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(loop) for _ in range(threads)]
        try:
            wait_until(lambda: len(seen) > threads, 20.0, "under way")
            yield seen
        finally:
            over.set()
        for each in running:
            each.result(scaled(30.0))


def test_remembered_verdict_lives_out_its_time_when_the_apiserver_is_away(
    rig: Rig,
) -> None:
    assert rig.ask().status == 200
    assert rig.ask(f"{SPACE}/pods/web-0/proxy/x").status == 403
    with contextlib.suppress(OSError, http.client.HTTPException):
        rig.mood(gone=True)
    assert rig.ask().status == 200  # still known
    # Nobody whom it does not know is let in, nor told that they are refused.
    answer = rig.ask(token="bob-token")
    assert (answer.status, message(answer)) == (503, f"{NO_ANSWER} who you are")
    seen = []

    def over() -> bool:
        seen.append(rig.ask().status)
        return seen[-1] != 200

    wait_until(over, 20.0, "what was remembered has ended")
    seen += [rig.ask().status for _ in range(20)]
    assert set(seen[seen.index(503) :]) == {503}
    assert seen[: seen.index(503)] == [200] * seen.index(503)
    assert rig.ask(f"{SPACE}/pods/web-0/proxy/x").status == 503
    assert rig.program.process.poll() is None


def test_slow_review_holds_up_nobody_else(rig: Rig) -> None:
    assert rig.ask().status == 200
    begun = rig.reviews()
    rig.mood(slow_s=scaled(5.0))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(rig.ask, token="user-1-token")
        wait_until(lambda: rig.reviews() > begun, 10.0, "the question")
        known = [rig.ask().status for _ in range(10)]
        assert not late.done()
        rig.mood()
        assert late.result(scaled(30.0)).status == 403  # a user, without rights
    assert known == [200] * 10


def test_client_that_does_not_wait_for_a_slow_review_costs_no_more(rig: Rig) -> None:
    rig.mood(slow_s=scaled(2.0))
    for number in range(50):
        with rig.program.dial() as connection:
            head = f"GET {WEB}/x HTTP/1.1\r\nHost: h\r\n"
            token = f"Authorization: Bearer user-{number}-token\r\n\r\n"
            connection.sendall((head + token).encode())
    rig.mood()
    assert rig.ask().status == 200
    # What they may do was never asked: nobody waited for it any more.
    assert rig.counts()["subjectaccessreviews"] == 1


@pytest.mark.parametrize("review", ["who you are", "what you may do"])
def test_review_that_is_answered_with_a_redirect_is_none(rig: Rig, review: str) -> None:
    # CVE-2020-8561: whoever answers must not send us elsewhere.
    wanted = "x"
    if review == "what you may do":
        assert rig.ask().status == 200  # whose token it is, is known now
        wanted = "y"
    method = "POST" if wanted == "y" else "GET"
    with Recorder(None) as elsewhere:
        rig.mood(redirect=elsewhere.url)
        answer = rig.ask(f"{WEB}/{wanted}", method=method)
        assert (answer.status, message(answer)) == (503, f"{NO_ANSWER} {review}")
        assert elsewhere.seen == []
    rig.mood()
    wait_until(lambda: rig.ask().status == 200, 10.0, "a good mood is enough")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_review_that_fails_never_means_yes(rig: Rig, status: int) -> None:
    rig.mood(status=status)
    seen = len(rig.backend.seen)
    assert {rig.ask().status for _ in range(3)} == {503}
    assert len(rig.backend.seen) == seen


def test_revoked_token_is_gone_within_its_time(rig: Rig) -> None:
    assert rig.ask().status == 200
    rig.mood(revoked=[ALICE])
    # Asked all the time: using an answer must not make it live longer.
    with under_load(lambda: rig.ask().status, 2) as seen:
        wait_until(lambda: seen[-1] == 401, 3.0 * TTL_S + 5.0, "it is nobody's")
    first = seen.index(401)
    # Answers of two threads may cross at the moment itself.
    assert set(seen[first + 2 :]) <= {401}
    assert rig.ask().status == 401


def test_certificate_that_is_rotated_under_load_costs_no_request(rig: Rig) -> None:
    directory = rig.directory
    (directory / "next").mkdir()
    issuer = Authority(directory / "next", "the next one")
    trusted = directory / "both.crt"
    both = (directory / "ca.crt").read_bytes() + issuer.certificate.read_bytes()
    trusted.write_bytes(both)
    context = ssl.create_default_context(cafile=str(trusted))
    shown: set[bytes | None] = set()
    kept = _dial(rig, context)

    def once() -> int:
        with _dial(rig, context) as connection:
            shown.add(connection.getpeercert(binary_form=True))
            return ask(connection, f"{WEB}/x", token=ALICE).status

    with kept, under_load(once) as seen:
        for number in range(3):
            before = len(shown)
            pair = issuer.issue(f"next-{number}", ["127.0.0.1"])
            for name, source in (("key", pair.key), ("crt", pair.certificate)):
                fresh = directory / f"server.{name}.new"
                fresh.write_bytes(source.read_bytes())
                os.replace(fresh, directory / f"server.{name}")
            wait_until(lambda n=before: len(shown) > n, 20.0, "the new certificate")  # type: ignore[misc]
        # A connection of before serves on.
        assert ask(kept, f"{WEB}/x", token=ALICE).status == 200
    assert len(shown) == 4
    assert set(seen) == {200}


def _dial(rig: Rig, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", rig.program.port), scaled(20.0))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_endpoint_that_moves_to_another_namespace_is_not_served_from_there(
    rig: Rig,
) -> None:
    # CVE-2021-25740: the slice still names the address; its Pod is somebody else's now.
    call, host, port = rig.call, rig.backend.host, rig.backend.port
    call("POST", "/api/v1/namespaces", {"metadata": {"name": "foreign"}})
    make_pod(call, "moving", host, [])
    make_service(call, "mover", [("", 80, port)], "moving", host)
    target = f"{SPACE}/services/mover/proxy/x"

    def status() -> int:
        return rig.ask(target, token="admin-token").status

    wait_until(lambda: status() == 200, 10.0, "the Service")
    call("DELETE", f"{SPACE}/pods/moving")
    _make_foreign(call, host)
    wait_until(lambda: status() == 503, 10.0, "its Pod is gone")
    served = len(rig.backend.seen)
    ref = {"kind": "Pod", "namespace": "foreign", "name": "moving"}
    endpoint = {"addresses": [host], "targetRef": ref}
    for endpoints in ([endpoint], [{"addresses": [host]}]):  # named, or nobody's
        call("PATCH", f"{SLICES}/mover-1", {"endpoints": endpoints}, MERGE)
        make_pod(call, f"mark-{len(endpoints[0])}", host, [])
        mark = f"{SPACE}/pods/mark-{len(endpoints[0])}:{port}/proxy/mark"
        # Watches are of one apiserver: what came later is known later.
        wait_until(lambda m=mark: rig.ask(m, token="admin-token").status == 200, 10.0)  # type: ignore[misc]
        assert {status() for _ in range(20)} == {503}
    marks = rig.backend.seen[served:]
    assert set(marks) == {"/mark"}
    assert status() == 503


def _make_foreign(call: Call, host: str) -> None:
    pods = "/api/v1/namespaces/foreign/pods"
    spec = {"containers": [{"name": "c", "image": "none"}]}
    call("POST", pods, {"metadata": {"name": "moving"}, "spec": spec})
    status = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}
    call("PATCH", f"{pods}/moving/status", {"status": status}, MERGE)


MANY = 5000
AT_ONCE = 8


def test_many_tokens_leave_memory_bounded(rig: Rig) -> None:
    rig.ask()

    def many(first: int) -> set[int]:
        with rig.program.dial() as connection:
            return {
                ask(connection, f"{WEB}/x", token=f"forged-{number}-{'x' * 900}").status
                for number in range(first, first + MANY // AT_ONCE)
            }

    sizes = []
    for half in range(2):
        firsts = [half * MANY + MANY // AT_ONCE * n for n in range(AT_ONCE)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert set.union(*pool.map(many, firsts)) == {401}
        sizes.append(_resident(rig.program.pid))
    asked = rig.counts()["tokenreviews"]
    assert asked >= 2 * MANY  # each was another one
    assert sizes[1] / sizes[0] < 1.25
    assert rig.ask().status == 200


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no such process")


def test_same_new_token_over_many_connections_is_asked_about_once(rig: Rig) -> None:
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(rig.program.dial()) for _ in range(20)]
        rig.mood(slow_s=scaled(0.5))
        head = (
            f"GET {WEB}/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {ALICE}\r\n\r\n"
        )
        for link in links:
            link.sendall(head.encode())
        statuses = set()
        for link in links:
            answer = http.client.HTTPResponse(link)
            answer.begin()
            statuses.add(answer.status)
            answer.read()
    assert statuses == {200}
    counts = rig.counts()
    assert [counts[what] for what in REVIEWS] == [1, 1]


def test_rights_that_are_taken_away_end_with_the_answer(rig: Rig) -> None:
    assert rig.ask().status == 200
    rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    rig.call("DELETE", f"{rbac}/readers")
    wait_until(lambda: rig.ask().status == 403, 3.0 * TTL_S + 5.0, "it may no more")
