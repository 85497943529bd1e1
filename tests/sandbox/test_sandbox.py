"""The first look: what the sandbox prints works as it stands, and nothing stays."""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import Program
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # eight processes start and end


class Sandbox(Program):
    """`pyproxy sandbox` on free ports."""

    def __init__(self, directory: Path) -> None:
        free = [*("--listen=127.0.0.1:0", "--admin-address=127.0.0.1:0")]
        free.append("--bastion-port=0")
        environment = {"TMPDIR": str(directory)}
        super().__init__(
            directory, "pyproxy", "sandbox", *free, environment=environment
        )
        self.directory = directory

    def ready(self) -> str:
        """Wait for the whole text and return it."""
        self.wait_for("Ctrl-C ends and removes all of it.", 40)
        return self.stdout

    def line(self, word: str) -> str:
        """The first printed command with this in it, as a user would copy it."""
        found = [line for line in self.stdout.splitlines() if word in line]
        return found[0].partition("#")[0].strip()

    def type(self, word: str, *more: str) -> str:
        """Run that command in a shell and return what it prints."""
        command = " ".join([self.line(word), *more])
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=scaled(30),
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def in_cluster(self, word: str, *more: str) -> str:
        """Type such a line after the one that names the kubeconfig."""
        command = " ".join([f"{self.line('export')};", self.line(word), *more])
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=scaled(30),
            check=False,
        )
        assert done.returncode == 0, f"{word}: {done.stderr}"
        return done.stdout

    def wait_for_event(self, name: str, what: str) -> None:
        """Wait until the sandbox tells this."""
        wait_until(lambda: re.search(f"{name} +{what}", self.stdout), 30, what)

    def kids(self) -> list[int]:
        """Processes that it started."""
        tasks = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in tasks.split()]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A running sandbox."""
    with Sandbox(tmp_path / "sandbox") as made:
        yield made


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_what_it_says_to_type_works(sandbox: Sandbox) -> None:
    sandbox.ready()
    names = sandbox.type("seq 9").split()
    assert len(names) == 9
    assert set(names) <= {"alpha", "beta", "gamma"}
    assert sandbox.type("/whoami") in {"alpha\n", "beta\n", "gamma\n"}
    assert "UP" in sandbox.type(" top --admin-address", "--once")
    assert '"state": "UP"' in sandbox.type("debug/table")
    assert "readyz check passed" in sandbox.type("readyz?verbose")
    assert "pyproxy_backend_up" in sandbox.type("metrics | grep")
    page = shlex.quote(sandbox.line("live page").split()[-1])
    shown = subprocess.run(
        ["curl", "-s", page], capture_output=True, timeout=scaled(10), check=True
    )
    assert b"<title>pyproxy</title>" in shown.stdout


def test_what_it_says_to_type_to_the_cluster_works(sandbox: Sandbox) -> None:
    sandbox.ready()
    shown = sandbox.in_cluster("get pods,services")
    for name in ("pod/clock-0", "pod/web-0", "pod/web-1", "service/web"):
        assert name in shown
    assert sandbox.in_cluster("run mine") == "pod/mine created\n"
    assert sandbox.in_cluster("pod/mine") == "pod/mine condition met\n"
    log = sandbox.in_cluster("logs --follow", "--follow=false")
    assert log.startswith("clock: started\n")
    assert "hi" in sandbox.in_cluster("exec -it", "-c", "'echo hi'")
    command = ["--port=0", "--", "curl", "--silent", "{}/version"]
    assert '"gitVersion": "v1.36.2+sandbox"' in sandbox.in_cluster(
        "kubectl-proxy", *command
    )


def test_what_it_says_to_type_to_the_bastion_works(sandbox: Sandbox) -> None:
    sandbox.ready()
    page = sandbox.type("Bearer admin-token' https", "-s")
    assert "<h1>A page inside</h1>" in page
    assert "for /; I am a pod" in page
    refused = sandbox.type("Bearer alice-token'", "-s")
    assert 'User \\"alice\\" cannot get resource \\"services/proxy\\"' in refused
    page = sandbox.type("--resolve", "-s")
    assert "asked page.default.svc.localhost:" in page
    assert "for /any/path; I am a pod" in page
    assert "kubelet_running_pods" in sandbox.type("laptop/proxy/metrics", "-s")

    def logged() -> list[tuple[str, int]]:
        lines = sandbox.type("# who did what").splitlines()
        return [
            (event["user"]["username"], event["responseStatus"]["code"])
            for event in map(json.loads, lines)
        ]

    wanted = [("admin", 200), ("alice", 403), ("admin", 200), ("admin", 200)]
    wait_until(lambda: logged() == wanted)


def test_service_fails_nobody_when_an_endpoint_dies(sandbox: Sandbox) -> None:
    sandbox.ready()
    assert "servers" in sandbox.in_cluster("get service/servers")

    def who() -> list[str]:
        return sandbox.type("for i in $(seq 20); do").split()

    heard: set[str] = set()

    def all_are_heard() -> bool:
        heard.update(who())
        return heard == {"alpha", "beta", "gamma"}

    wait_until(all_are_heard, 20)
    sandbox.type("# alpha, an endpoint of the Service")
    sandbox.wait_for_event("alpha", "killed")
    answers = who()
    assert len(answers) == 20  # none failed
    assert set(answers) == {"beta", "gamma"}


def test_bastion_that_was_killed_comes_back(sandbox: Sandbox) -> None:
    sandbox.ready()
    row = sandbox.line("pyproxy apiserver-proxy")
    os.kill(int(row.split()[1]), signal.SIGKILL)
    sandbox.wait_for_event("bastion", "killed")
    sandbox.type("# bring back")
    sandbox.wait_for_event("bastion", "back")
    wait_until(lambda: "A page" in sandbox.type("Bearer admin-token' https", "-s"), 10)


def test_api_server_that_was_killed_comes_back(sandbox: Sandbox) -> None:
    sandbox.ready()
    row = sandbox.line("Kubernetes API")
    os.kill(int(row.split()[1]), signal.SIGKILL)
    sandbox.wait_for_event("api", "killed")
    sandbox.type("# bring back")
    sandbox.wait_for_event("api", "back")
    assert "web-0" in sandbox.in_cluster("get pods,services")


def test_servers_die_hang_drain_and_come_back(sandbox: Sandbox) -> None:
    sandbox.ready()
    sandbox.type("# alpha dies")
    sandbox.wait_for_event("alpha", "killed")
    sandbox.wait_for_event("alpha", "DOWN")
    sandbox.type("# beta hangs")
    sandbox.wait_for_event("beta", "DOWN")
    assert set(sandbox.type("seq 9").split()) == {"gamma"}
    stopped = int(sandbox.line("# beta hangs").split()[-1])
    os.kill(stopped, signal.SIGCONT)
    sandbox.wait_for_event("beta", "UP")
    sandbox.type("# gamma drains")
    sandbox.wait_for_event("gamma", "DRAINING")
    assert set(sandbox.type("seq 9").split()) == {"beta"}
    sandbox.type("# bring back")
    sandbox.wait_for_event("alpha", "back")
    sandbox.wait_for_event("alpha", "UP")
    sandbox.type("# gamma drains")
    sandbox.wait_for_event("gamma", "UP")
    wait_until(
        lambda: set(sandbox.type("seq 9").split()) == {"alpha", "beta", "gamma"}, 20
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_end_leaves_nothing(sandbox: Sandbox, number: signal.Signals) -> None:
    sandbox.ready()
    kids = sandbox.kids()
    assert len(kids) == 8
    os.kill(kids[0], signal.SIGSTOP)  # even one that cannot hear us
    sandbox.send(number)
    assert sandbox.wait() == 0
    assert not any(map(lives, kids))
    assert not list(sandbox.directory.glob("pyproxy-sandbox-*"))
    assert sandbox.stderr == ""


@pytest.mark.adversity
def test_killed_sandbox_takes_its_children_along(sandbox: Sandbox) -> None:
    sandbox.ready()
    kids = sandbox.kids()
    os.kill(kids[0], signal.SIGSTOP)
    sandbox.send(signal.SIGKILL)
    sandbox.wait()
    wait_until(lambda: not any(map(lives, kids)), 10, "children end")


@pytest.mark.adversity
def test_balancer_that_ends_by_itself_ends_the_sandbox(sandbox: Sandbox) -> None:
    sandbox.ready()
    balancer = int(sandbox.line("pyproxy apiserver-lb").split()[1])
    os.kill(balancer, signal.SIGKILL)
    assert sandbox.wait() == 1
    assert sandbox.stderr == "pyproxy: the balancer ended by itself\n"


def test_interrupt_while_starting_leaves_nothing(sandbox: Sandbox) -> None:
    wait_until(lambda: len(sandbox.kids()) >= 3, 20, "children")
    kids = sandbox.kids()
    sandbox.send(signal.SIGINT)
    assert sandbox.wait() == 0
    assert not any(map(lives, kids))
