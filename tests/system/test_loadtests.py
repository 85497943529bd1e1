"""The benchmark's own parts: what it counts must be right before it compares."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import http_contenders, http_measure, http_report, report
from loadtests.contenders import Contender, Forward, Setup, missing, start
from loadtests.http_contenders import HttpSetup
from loadtests.http_files import TOKEN, Files
from loadtests.http_measure import HttpGenerator, HttpWork
from loadtests.measure import BUILD, WORKS, Generator, Sample, build
from loadtests.process import Process, free_port
from loadtests.report import Samples, Spread

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")

SAMPLE = Sample(
    work="rr",
    contender="direct",
    round=0,
    wall_s=1.0,
    units=1000,
    errors=0,
    proxy_s=0.5,
    client_s=0.1,
    server_s=0.1,
    machine_s=0.8,
    foreign_s=0.1,
    p50_us=1.0,
    p99_us=2.0,
    p999_us=3.0,
)


@pytest.fixture
def generator(tmp_path: Path) -> Iterator[Generator]:
    build()
    with ExitStack() as stack:
        yield Generator(stack, None, tmp_path)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["rr", "half", "bulk1", "bulk8", "up8", "crr"])
def test_generator_on_a_direct_path_counts_work_and_no_errors(
    generator: Generator, name: str
) -> None:
    work = replace(WORKS[name], connections=4, rate=2000 if name == "half" else 0)
    sample = generator.measure(work, None, 0, seconds=0.3, warm_s=0.05)
    assert sample.errors == 0
    assert sample.units > 100
    assert sample.client_s > 0
    assert sample.proxy_s == 0
    if name == "half":
        assert sample.rate == pytest.approx(2000, rel=0.3)


@pytest.mark.slow
@needs_compiler
def test_generator_when_the_server_vanishes_reports_lost_connections(
    generator: Generator,
) -> None:
    work = replace(WORKS["rr"], connections=3)
    client = generator.start(work, generator.echo_port, [], 0.0, 20.0)
    generator.server.child.terminate()
    assert generator.result(client, 20)["lost"] == 3


@pytest.mark.slow
@needs_compiler
def test_generator_when_nobody_listens_counts_failed_connections(
    generator: Generator,
) -> None:
    work = replace(WORKS["crr"], connections=2)
    client = generator.start(work, free_port(), [], 0.0, 0.1)
    result = generator.result(client, 20)
    assert result["failed_all"] > 0
    assert result["units"] == 0


@pytest.mark.slow
@needs_compiler
def test_bulk_client_finds_a_single_wrong_byte(
    generator: Generator, tmp_path: Path
) -> None:
    # A relay in Python that flips one bit far into the stream.
    program = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
client, _ = listener.accept()
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
server.sendall(client.recv(1))
seen = 0
while data := bytearray(server.recv(65536)):
    if seen <= 3_000_000 < seen + len(data):
        data[3_000_000 - seen] ^= 1
    seen += len(data)
    client.sendall(data)
"""
    command = ["python3", "-c", program, str(generator.bulk_port)]
    with Process(command, None, tmp_path / "relay.log") as relay:
        port = int(relay.line())
        client = generator.start(WORKS["bulk1"], port, [], 0.0, 0.5)
        assert generator.result(client, 20)["wrong"] == 1


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["haproxy", "nginx", "envoy", "ours"])
def test_contender_forwards_requests_and_streams_and_ends(
    generator: Generator, tmp_path: Path, name: str
) -> None:
    if absent := missing(name):
        pytest.skip(absent)
    echo = Forward(free_port(), (("127.0.0.1", generator.echo_port),))
    bulk = Forward(free_port(), (("127.0.0.1", generator.bulk_port),), bulk=True)
    setup = Setup((echo, bulk), 1, None, 1024, tmp_path / name)
    with ExitStack() as stack:
        contender: Contender = start(name, setup, stack)
        for work in (WORKS["rr"], WORKS["crr"], WORKS["bulk8"], WORKS["up1"]):
            few = replace(work, connections=min(4, work.connections))
            if work.program == "crr":
                few = replace(few, connections=1)
            sample = generator.measure(few, contender, 0, 0.2, 0.05)
            assert sample.errors == 0, work.name
            assert sample.proxy_s > 0, work.name
    assert contender.process.child.poll() is not None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("http"), list_bytes=300_000)
    made.make()
    return made


@pytest.fixture
def upstream(tmp_path: Path, files: Files) -> Iterator[HttpGenerator]:
    build()
    with ExitStack() as stack:
        yield HttpGenerator(stack, None, tmp_path, files)


def small(name: str) -> HttpWork:
    """A work of the bench, with as few connections as show what it is about."""
    work = http_measure.WORKS[name]
    few = 20 if name == "watch" else 4
    return replace(work, connections=few, rate=500 if name == "half" else 0)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", list(http_measure.WORKS))
def test_http_generator_on_a_direct_path_counts_work_and_no_errors(
    upstream: HttpGenerator, name: str
) -> None:
    sample = upstream.measure(small(name), None, 0, seconds=0.3, warm_s=0.05)
    assert sample.errors == 0
    assert sample.units > 20
    assert sample.client_s > 0
    assert sample.notes["requests"] > 0
    if name == "half":
        assert sample.rate == pytest.approx(500, rel=0.3)
    if name == "fresh":  # all but the first ones resume their session
        assert sample.notes["resumed"] > sample.notes["accepted"] / 2


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["get", "list", "watch"])
def test_http_generator_finds_a_body_that_is_not_the_expected_one(
    upstream: HttpGenerator, name: str
) -> None:
    work = replace(small(name), body="list" if name == "get" else "small")
    if name == "watch":
        work = replace(work, body="gzip")
    sample = upstream.measure(work, None, 0, seconds=0.2, warm_s=0.05)
    assert sample.errors > 0


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["get", "watch", "exec"])
def test_http_upstream_refuses_who_shows_no_token(
    upstream: HttpGenerator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(http_measure, "TOKEN", TOKEN[:-1] + "?")
    sample = upstream.measure(small(name), None, 0, seconds=0.2, warm_s=0.05)
    assert sample.notes["refused"] > 0
    assert sample.errors > sample.notes["refused"]  # the client noticed, too


@pytest.mark.slow
@needs_compiler
@pytest.mark.crowd
@pytest.mark.parametrize("name", list(http_contenders.COMMANDS))
def test_http_contender_does_all_works_and_ends(
    upstream: HttpGenerator, files: Files, tmp_path: Path, name: str
) -> None:
    if absent := http_contenders.missing(name):
        pytest.skip(absent)
    to = (("127.0.0.1", upstream.echo_port),)
    forwards = (Forward(free_port(), to), Forward(free_port(), to, bulk=True))
    setup = HttpSetup(forwards, 1, None, 4096, tmp_path / name, files)
    with ExitStack() as stack:
        contender = http_contenders.start(name, setup, stack)
        for work in map(small, http_measure.WORKS):
            sample = upstream.measure(work, contender, 0, 0.2, 0.05)
            assert sample.errors == 0, work.name
            assert sample.units > 1, work.name
            assert sample.proxy_s > 0, work.name
        upstream.hold(contender.ports[-1], 5).stop()
    assert contender.process.child.poll() is not None
    assert TOKEN not in http_contenders.configuration(name, setup.folder)


@pytest.mark.slow
@needs_compiler
def test_client_with_bad_options_refuses() -> None:
    build()
    done = subprocess.run([BUILD / "client", "rr"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "--to" in done.stderr


def test_samples_leave_out_rounds_with_an_unsteady_baseline() -> None:
    rates = [1000, 1010, 700, 990]
    direct = [replace(SAMPLE, round=r, units=u) for r, u in enumerate(rates)]
    ours = [replace(s, contender="ours") for s in direct]
    of_work = Samples(direct + ours, "rr")
    assert of_work.flagged == {2}
    assert of_work.values("ours", "rate").low == 990


def test_best_peer_is_chosen_per_metric() -> None:
    nginx = replace(SAMPLE, contender="nginx", units=2000, proxy_s=1.0)
    envoy = replace(SAMPLE, contender="envoy", units=500, proxy_s=0.1)
    ours = replace(SAMPLE, contender="ours", units=2200, proxy_s=0.44)
    of_work = Samples([SAMPLE, nginx, envoy, ours], "rr")
    assert of_work.best_peer("rate", larger_wins=True) == "nginx"
    assert of_work.best_peer("proxy_cpu", larger_wins=False) == "envoy"
    assert of_work.ratio("ours", "nginx", "rate") == Spread(1.1, 1.1, 1.1)


def test_report_says_fail_where_a_bar_is_missed() -> None:
    nginx = replace(SAMPLE, contender="nginx")
    ours = replace(SAMPLE, contender="ours", units=1050)
    rows = {row[1]: row for row in report.bar_rows([SAMPLE, nginx, ours])}
    assert rows["requests/s"][5] == "FAIL"
    assert rows["CPU per request"][5] == "FAIL"
    better = report.bar_rows([SAMPLE, nginx, replace(ours, units=1400)])
    assert [row[5] for row in better[1:]] == ["reached", "reached"]


def test_sample_survives_json() -> None:
    text = json.dumps(SAMPLE.__dict__)
    assert Sample(**json.loads(text)) == SAMPLE


def test_http_bars_take_the_best_of_those_that_they_name() -> None:
    samples = [
        replace(SAMPLE, work="get", contender=name, units=units)
        for name, units in [
            ("direct", 4000),
            ("kubectl", 100),
            ("nginx", 1000),
            ("haproxy", 900),
            ("envoy", 1100),
            ("ours", 2000),
        ]
    ]
    rows = report.bar_rows(samples, http_report.BARS)[1:]
    ratios = [(row[2], row[3].partition(" ")[0], row[5]) for row in rows]
    assert ratios == [
        ("nginx", "0.50", "reached"),  # CPU, of nginx and HAProxy
        ("kubectl", "0.05", "reached"),
        ("envoy", "1.82", "reached"),  # rate, of all
    ]


def test_http_watch_bars_fail_on_a_late_a_lost_and_a_merged_event() -> None:
    direct = replace(SAMPLE, work="watch", p99_us=100.0, notes={"merged": 1})
    ours = replace(direct, contender="ours", p99_us=2000.0)
    assert verdicts([direct, ours]) == ["reached", "reached"]
    assert verdicts([direct, replace(ours, p99_us=2200.0)]) == ["FAIL", "reached"]
    assert verdicts([direct, replace(ours, errors=1)]) == ["reached", "FAIL"]
    held = replace(ours, notes={"merged": 2})
    assert verdicts([direct, held]) == ["reached", "FAIL"]


def verdicts(samples: list[Sample]) -> list[str]:
    return [row[5] for row in http_report.watch_bars(samples)]


def test_http_memory_bar_leaves_out_what_tls_takes() -> None:
    alone = {"contender": "TLS alone", "bytes_per_watch": 30_000}
    for size, word in [(34_000, "reached"), (34_200, "FAIL")]:
        ours = {"contender": "ours", "bytes_per_watch": size}
        assert http_report.memory_bars([alone, ours])[0][5] == word
