"""`pyproxy kubectl-proxy -- COMMAND`: the proxy is up while a command runs."""

import os
import shlex
import signal
import sys

import pytest

from tests.fakes.desk import Desk
from tests.fakes.office import Office
from tests.fakes.recorder import reply

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test


def command(proxy: Office, script: str, *flags: str) -> Desk:
    """Start a proxy around a script of Python."""
    return proxy.proxy(Desk, *flags, "--", sys.executable, "-c", script, "{}/version")


def test_command_runs_while_the_proxy_is_up(office: Office) -> None:
    office.upstream.answer = reply("200 OK", b"hello")
    script = (
        "import os, sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read());"
        " print(sys.argv[1] == os.environ['PYPROXY_URL'] + '/version'); sys.exit(7)"
    )
    with command(office, script) as proxy:
        assert proxy.wait() == 7
        # Its output is its own; ours goes to stderr.
        assert proxy.stdout == "b'hello'\nTrue\n"
        assert proxy.stderr.startswith("Starting to serve on 127.0.0.1:")
        assert office.upstream.seen[0].target == "/version"


def test_command_finds_the_unix_socket(office: Office) -> None:
    script = (
        "import os, socket; s = socket.socket(socket.AF_UNIX);"
        " s.connect(os.environ['PYPROXY_SOCKET']); print(os.environ['PYPROXY_URL'])"
    )
    path = office.directory / "x.sock"
    with command(office, script, f"--unix-socket={path}") as proxy:
        assert proxy.wait() == 0
        assert proxy.stdout == "http://localhost\n"
    assert not path.exists()


def test_command_that_ends_by_a_signal_is_told_as_a_shell_would(office: Office) -> None:
    with command(office, "import os; os.kill(os.getpid(), 9)") as proxy:
        assert proxy.wait() == 128 + 9


@pytest.mark.parametrize(
    ("name", "code"), [("/nonexistent/x", 127), ("/etc/passwd", 126)]
)
def test_command_that_cannot_run_is_said(office: Office, name: str, code: int) -> None:
    with office.proxy(Desk, "--", name) as proxy:
        assert proxy.wait() == code
        assert f"error: cannot run {name}" in proxy.stderr
        assert "Traceback" not in proxy.stderr


def test_command_is_asked_to_end_when_we_are(office: Office) -> None:
    script = "import time; print('up', flush=True); time.sleep(60)"
    with command(office, script) as proxy:
        proxy.wait_for("up")
        proxy.send(signal.SIGTERM)
        assert proxy.wait() == 128 + signal.SIGTERM


def test_command_that_does_not_end_is_killed(office: Office) -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN);"
        " print('up', flush=True); time.sleep(60)"
    )
    with command(office, script, "--drain-timeout=100ms") as proxy:
        proxy.wait_for("up")
        proxy.send(signal.SIGTERM)
        assert proxy.wait() == 128 + signal.SIGKILL


def test_command_decides_itself_about_ctrl_c(office: Office) -> None:
    # A terminal sends it to both.
    script = "import sys; print('up', flush=True); sys.stdin.read(); sys.exit(3)"
    file = office.directory / "pipe"
    os.mkfifo(file)
    line = f"exec {sys.executable} -c {shlex.quote(script)} < {file}"
    with office.proxy(Desk, "--", "sh", "-c", line) as proxy:
        with file.open("wb"):
            proxy.wait_for("up")
            proxy.send(signal.SIGINT)
            assert proxy.process.poll() is None
        assert proxy.wait() == 3
