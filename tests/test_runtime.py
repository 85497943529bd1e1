"""Signals, systemd, log lines: what every mode has in common."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pyproxy.logs import JsonFormatter, TextFormatter
from pyproxy.notify import Notifier
from tests.fakes.apiserver import FakeApiserver
from tests.fakes.cluster import FAST, Cluster
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(scaled(10))
        yield listening


def heard(supervisor: socket.socket, wanted: str) -> list[str]:
    """Lines of the next datagram that has `wanted` in it."""
    while True:
        lines = supervisor.recv(4096).decode().splitlines()
        if any(line.startswith(wanted) for line in lines):
            return lines


@pytest.mark.slow
def test_systemd_hears_of_start_reload_watchdog_and_stop(
    supervisor: socket.socket, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path)
    environment = {
        "NOTIFY_SOCKET": supervisor.getsockname(),
        "WATCHDOG_USEC": "100000",
    }
    with cluster.fake("a") as a:
        servers = [f"127.0.0.1:{a.address.port}"]
        with cluster.balancer(servers=servers, environment=environment) as balancer:
            assert "STATUS=serving on 127.0.0.1:" in str(heard(supervisor, "READY=1"))
            heard(supervisor, "WATCHDOG=1")
            heard(supervisor, "WATCHDOG=1")
            balancer.send(signal.SIGHUP)
            lines = heard(supervisor, "RELOADING=1")
            assert lines[1].startswith("MONOTONIC_USEC=")
            heard(supervisor, "READY=1")
            balancer.send(signal.SIGTERM)
            heard(supervisor, "STOPPING=1")
            assert balancer.wait() == 0


def test_notifier_is_silent_when_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()
    notifier.say("READY=1")
    assert notifier.watchdog_s == 0


def test_notifier_survives_a_supervisor_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    Notifier().say("READY=1")


def test_notifier_knows_abstract_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"pyproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(scaled(5))
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().say("READY=1", "STATUS=x")
        assert listening.recv(99) == b"READY=1\nSTATUS=x"


def test_watchdog_of_another_process_is_not_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier().watchdog_s == 0.5
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Notifier().watchdog_s == 0


@pytest.mark.slow
def test_every_descriptor_that_the_system_grants_is_used(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.fake("a") as a:
        servers = [f"127.0.0.1:{a.address.port}"]
        with cluster.balancer(servers=servers) as balancer:
            balancer.serving()
            limits = Path(f"/proc/{balancer.pid}/limits").read_text()
            line = next(each for each in limits.splitlines() if "open files" in each)
            soft, hard = line.split()[3:5]
            assert soft == hard


def seen(server: FakeApiserver, count: int) -> bool:
    """Whether so many requests came in."""
    return len(server.heads) >= count


@pytest.mark.slow
@pytest.mark.adversity
def test_closed_stdout_and_stderr_do_not_stop_the_service(tmp_path: Path) -> None:
    # A parent that read our first lines may have closed the pipes since.
    cluster = Cluster(tmp_path)
    with cluster.fake("a") as a:
        flags = [f"--check-ca={cluster.issuer.certificate}", "--admin-address=", *FAST]
        server = f"--server=127.0.0.1:{a.address.port}"
        words = ["apiserver-lb", "--listen=127.0.0.1:0", server, *flags]
        with subprocess.Popen(
            [sys.executable, "-m", "pyproxy", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as balancer:
            assert balancer.stdout is not None
            assert balancer.stderr is not None
            port = int(balancer.stdout.readline().rpartition(b":")[2])
            balancer.stdout.close()
            balancer.stderr.close()
            for a.code in (500, 200, 500):  # each change is a log line
                enough = len(a.heads) + 5
                wait_until(partial(seen, a, enough), 20, "probes")
                assert cluster.who(("127.0.0.1", port)) == "a"
            balancer.terminate()
            assert balancer.wait(scaled(15)) == 0


def record(message: str, error: bool = False, **extra: object) -> logging.LogRecord:
    """A log record with data."""
    info = None
    if error:
        try:
            raise ValueError("broken")
        except ValueError:
            info = sys.exc_info()
    made = logging.LogRecord("pyproxy.x", logging.INFO, "f", 1, message, (), info)
    vars(made).update(extra)
    return made


def test_text_line_has_event_and_data_that_cannot_forge_another() -> None:
    line = TextFormatter().format(
        record("backend changed", backend="10.0.0.1:1", why='a b="\n2026 INFO forged')
    )
    assert "\n" not in line
    assert "INFO    backend changed backend=10.0.0.1:1 why=" in line
    assert r"\n2026" in line


def test_json_line_is_one_object() -> None:
    text = JsonFormatter().format(record("broke", error=True, n=1, path=Path("/x")))
    entry = json.loads(text)
    assert "\n" not in text
    assert (entry["event"], entry["n"], entry["path"]) == ("broke", 1, "/x")
    assert "ValueError: broken" in entry["traceback"]


def test_traceback_follows_a_text_line() -> None:
    assert "\nTraceback" in TextFormatter().format(record("broke", error=True))
