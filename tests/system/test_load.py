"""`make load`: locust at a bastion and a node; exit codes say whether they held."""

import importlib.util
import re
import subprocess
import sys

import pytest

from loadtests import load
from tests.fakes.bastion import own_address
from tests.fakes.process import ROOT
from tests.support.servers import free_port
from tests.support.waiting import scaled

pytestmark = pytest.mark.slow

needs_locust = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None,
    reason="no locust (pip install --group bench)",
)
needs_address = pytest.mark.skipif(
    not own_address(), reason="only loopback addresses here"
)


def run(
    *options: str, mode: str = "apiserver-proxy"
) -> subprocess.CompletedProcess[str]:
    """Load a mode for some seconds."""
    command = [sys.executable, "-m", "loadtests.load", mode]
    return subprocess.run(
        [*command, "--users=20", "--spawn-rate=20", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )


@needs_locust
@needs_address
@pytest.mark.timeout(150)
def test_users_of_several_rights_get_what_they_may_and_no_more() -> None:
    done = run("--run-time=12s")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "requests, 0 failed" in done.stderr
    for what in ("Reader: download", "Refused: guess", "Talker: ten messages"):
        assert what in done.stdout + done.stderr


@needs_locust
@needs_address
@pytest.mark.timeout(150)
def test_user_who_may_less_than_was_said_makes_the_exit_code_1() -> None:
    done = run("--run-time=4s", "--shape=steady", "--reader-token=bob-token")
    assert done.returncode == 1
    assert "failed, more than 0.0000%" in done.stderr


@needs_locust
@needs_address
@pytest.mark.timeout(150)
def test_clients_of_a_node_do_not_notice_endpoints_that_die() -> None:
    done = run("--run-time=12s", mode="kube-proxy")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "requests, 0 failed" in done.stderr
    died = re.search(r"endpoints that stopped listening: (\d+)", done.stdout)
    assert died is not None
    assert int(died[1]) > 0
    for what in ("Caller: one request", "Keeper: kept", "Chatter: one flow"):
        assert what in done.stdout + done.stderr


@needs_locust
def test_node_that_serves_nobody_makes_the_exit_code_1() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    done = run(
        *("--run-time=2s", f"--host=http://{nowhere}", f"--udp={nowhere}"),
        mode="kube-proxy",
    )
    assert done.returncode == 1
    assert "100.0000% failed, more than 0.0000%" in done.stderr


def test_mode_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(SystemExit) as refused:
        load.command(["no-such-mode"])
    assert "'no-such-mode'" in str(refused.value)
    assert "apiserver-proxy" in str(refused.value)


@needs_locust
def test_options_of_locust_come_after_ours_and_win() -> None:
    told = load.command(["apiserver-proxy", "--users=7"])
    assert told.index("--users=7") > told.index("--users=60")
    assert "--headless" in told
    assert "--headless" not in load.command(["apiserver-proxy", "--web"])
