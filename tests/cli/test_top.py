"""`pyproxy top`, over a table as `/debug/table` gives it."""

import contextlib
import http.server
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pyproxy.cli import program
from pyproxy.cli.top import render
from tests.fakes.cluster import Cluster
from tests.support.servers import free_port

pytestmark = pytest.mark.live


def table(seconds: float, connects: int, traffic: int) -> dict[str, Any]:
    """A table some time after the start."""
    busy = {
        "address": "10.0.0.1:6443",
        "state": "UP",
        "active": 5,
        "connects": connects,
        "bytesUp": traffic,
        "bytesDown": traffic,
        "connectFailures": 1,
        "lastProbe": {"tookMs": 3.4},
        "why": "HTTP 200",
    }
    unseen = {"address": "10.0.0.2:6443"}
    closed = {"idle_timeout": 2}
    vip = {"address": "[::1]:6443", "pool": "p", "active": 5, "closed": closed}
    return {
        "mode": "apiserver-lb",
        "ready": True,
        "time": seconds,
        "relaysActive": 5,
        "generation": 3,
        "workers": 2,
        "vips": [vip],
        "pools": [{"name": "p", "balance": "least", "backends": [busy, unseen]}],
    }


def test_rates_are_what_grew_between_two_looks() -> None:
    shown = render(table(12, 120, 3 << 20), table(10, 100, 1 << 20), colour=False)
    row = next(line for line in shown.splitlines() if "10.0.0.1" in line)
    assert row.split() == "UP 10.0.0.1:6443 5 10 2 MiB 1 3ms HTTP 200".split()
    assert "[::1]:6443 -> p  active 5  accepted -  idle_timeout 2" in shown


def test_what_nobody_knows_is_no_zero() -> None:
    shown = render(table(10, 100, 1 << 20), None, colour=False)
    row = next(line for line in shown.splitlines() if "10.0.0.2" in line)
    assert row.split() == "- 10.0.0.2:6443 - - - - -".split()
    row = next(line for line in shown.splitlines() if "10.0.0.1" in line)
    assert row.split() == "UP 10.0.0.1:6443 5 - - 1 3ms HTTP 200".split()


def test_restart_in_between_gives_no_negative_rate() -> None:
    shown = render(table(12, 1, 1), table(10, 100, 1 << 20), colour=True)
    assert "\033[32mUP\033[0m" in shown
    row = next(line for line in shown.splitlines() if "10.0.0.1" in line)
    assert row.split()[3:5] == ["0", "0"]


def test_nobody_there_is_one_message() -> None:
    address = f"--admin-address=127.0.0.1:{free_port()}"
    result = CliRunner().invoke(program, ["top", "--once", address])
    assert result.exit_code == 1
    assert "is it running, with this --admin-address?" in result.stderr


class Answers(http.server.BaseHTTPRequestHandler):
    """An admin address with a table."""

    def do_GET(self) -> None:
        """Answer with a table of a moment."""
        body = json.dumps({**table(time.time(), 1, 1), "startedAt": id(self.server)})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def admin(port: int) -> Iterator[None]:
    """A server of tables for the time of the body."""
    with http.server.HTTPServer(("127.0.0.1", port), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_restart_of_the_server_is_waited_for() -> None:
    # Symptom: `no table from 127.0.0.1:9791: Connection refused`, and the end.
    port = free_port()
    words = ["top", f"--admin-address=127.0.0.1:{port}", "--interval=20ms"]
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as first:
        first.enter_context(admin(port))
        shown = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "pyproxy", *words],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(shown.terminate)
        assert shown.stdout is not None
        lines = iter(shown.stdout)
        assert any("pyproxy apiserver-lb  ready" in line for line in lines)
        first.close()
        assert any("; still trying" in line for line in lines)
        stack.enter_context(admin(port))
        # A frame that follows a frame: no line about a server that is away between.
        pairs = itertools.pairwise(lines)
        assert any(
            after[:7] == "pyproxy" and before[0] == "-" for before, after in pairs
        )


@pytest.mark.slow
def test_running_balancer_is_shown(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    with cluster.fake("a") as a:
        servers = [f"127.0.0.1:{a.address.port}"]
        with cluster.balancer(servers=servers) as balancer:
            balancer.serving()
            url = balancer.wait_for_event("admin address open")["url"]
            address = url.removeprefix("http://").rstrip("/")
            arguments = ["top", "--once", f"--admin-address={address}"]
            result = CliRunner().invoke(program, arguments)
            assert result.exit_code == 0
            assert "pyproxy apiserver-lb  ready" in result.output
            assert f"UP         {servers[0]}" in result.output
