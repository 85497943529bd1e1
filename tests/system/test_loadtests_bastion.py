"""The benchmark of bastions: what it counts must be right before it compares."""

import contextlib
import http.client
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import bastion_report, report
from loadtests.bastion_measure import (
    WORKS,
    BastionGenerator,
    Requests,
    digest,
    expected_digest,
    head,
)
from loadtests.bastion_scene import Pod
from loadtests.http_files import Files
from loadtests.measure import Sample, build
from pyproxy.sandbox.certificates import Pair
from tests.fakes.process import ROOT
from tests.fakes.recorder import Recorder, Seen
from tests.support.netns import obstacle
from tests.support.waiting import scaled

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
pytestmark = [pytest.mark.slow, needs_compiler]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("bodies"), list_bytes=100_000)
    made.make()
    return made


@pytest.fixture
def generator(tmp_path: Path, files: Files) -> Iterator[BastionGenerator]:
    build()
    with ExitStack() as stack:
        yield BastionGenerator(stack, None, tmp_path, files)


@pytest.mark.parametrize("name", list(WORKS))
def test_generator_on_a_direct_path_counts_work_and_no_errors(
    generator: BastionGenerator, name: str
) -> None:
    work = replace(WORKS[name], connections=4, rate=500 if name == "half" else 0)
    sample = generator.measure(work, None, 0, seconds=0.3, warm_s=0.05)
    assert sample.errors == 0
    assert sample.units > 20


def test_pod_refuses_requests_that_still_show_a_token(
    generator: BastionGenerator,
) -> None:
    texts = (head("/pods/web-0", "alice-token"),)
    work = Requests("shown", "get", 2, names=1, texts=texts)
    sample = generator.measure(work, None, 0, seconds=0.2, warm_s=0.05)
    assert sample.notes["refused"] > 0
    assert sample.errors >= sample.notes["refused"]


def test_download_that_is_not_the_whole_of_it_is_an_error(
    generator: BastionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.bastion_measure.BIG_TIMES", 99)
    work = replace(WORKS["download"], connections=1)
    assert generator.measure(work, None, 0, seconds=0.3, warm_s=0.05).errors > 0


def test_requests_that_are_written_out_are_sent_in_turn(
    generator: BastionGenerator,
) -> None:
    shown = b"Authorization: Bearer -"
    plain = head("/pods/web-0", "-").replace(shown, b"X-Forwarded-For: 127.0.0.1")
    work = Requests("two", "get", 1, names=2, texts=(plain, head("/pods/web-0", "-")))
    sample = generator.measure(work, None, 0, seconds=0.2, warm_s=0.05)
    # Every second one shows a token.
    assert sample.notes["refused"] == pytest.approx(sample.notes["requests"] / 2, abs=1)


@pytest.mark.parametrize(("token", "status"), [("alice-token", 200), ("bob", 401)])
def test_service_that_is_asked_lets_those_pass_who_show_the_token(
    tmp_path: Path, files: Files, token: str, status: int
) -> None:
    build()
    with Pod(files, None, tmp_path, "alice-token") as asked:
        client = http.client.HTTPConnection("127.0.0.1", asked.port, scaled(10))
        with contextlib.closing(client):
            shown = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "1.2.3.4"}
            client.request("GET", "/auth/api/v1/x", headers=shown)
            assert client.getresponse().status == status


def test_digest_is_that_of_the_whole_body_however_it_comes(files: Files) -> None:
    size, _ = expected_digest(files)
    part = files.body("list").read_bytes()

    def in_pieces(seen: Seen, connection: socket.socket) -> None:
        # A record of its own: with the head there is nothing of the body yet.
        connection.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        for _ in range(size // len(part)):
            connection.sendall(part)

    with Recorder(Pair(files.server, files.server)) as server:
        server.answer = in_pieces
        assert digest(server.address.port, files) == expected_digest(files)
        assert server.seen[0].get("authorization") == "Bearer alice-token"


def test_ratio_leaves_out_windows_in_which_one_had_no_time() -> None:
    nginx = replace(SAMPLE, contender="nginx")
    idle = replace(nginx, round=1, proxy_s=0.0)
    samples = [SAMPLE, replace(SAMPLE, round=1), nginx, idle]
    ratio = report.Samples(samples, "get").ratio("ours", "nginx", "proxy_cpu")
    assert ratio == report.Spread(1.0, 1.0, 1.0)


SAMPLE = Sample(
    *("get", "ours", 0, 1.0, 1000, 0, 0.1, 0.1, 0.1, 0.4, 0.0),
    *(1.0, 2.0, 3.0),
)


def test_report_judges_the_two_bars_of_cpu_per_request() -> None:
    nginx = replace(SAMPLE, contender="nginx", proxy_s=0.05)
    kube = replace(SAMPLE, contender="kube-apiserver", proxy_s=4.0)
    rows = report.bar_rows([SAMPLE, nginx, kube], bastion_report.BARS)
    assert [row[5] for row in rows[1:]] == ["reached", "FAIL"]


def test_report_says_fail_for_a_review_too_many_and_a_failed_request() -> None:
    first = {
        "contender": "ours",
        "wrong": 0,
        "tokenreviews": [1, 2],
        "subjectaccessreviews": [1, 1],
    }
    dead = {"contender": "ours", "failed": 1}
    rows = bastion_report.extra_bars({"first": [first], "dead": [dead]})
    assert [row[5] for row in rows] == ["FAIL", "FAIL"]


@pytest.mark.netns
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
@pytest.mark.timeout(180)
def test_bench_runs_to_its_report() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtests.bastion", "--quick"),
            *("--works=get,first,dead", "--contenders=ours"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(150),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[c.strip() for c in r.split("|")] for r in done.stdout.splitlines()]
    first = next(row for row in rows if row[1:2] == ["first"])
    assert first[4:7] == ["1-1, 1-1", "1, 1", "reached"]
    title = next(row for row in rows if row[-2:-1] == ["errors"])
    ours = next(r for r in rows if r[1:2] == ["ours"] and len(r) == len(title))
    assert ours[-2] == "0"
