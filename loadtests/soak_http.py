"""`pyproxy kubectl-proxy` under faults, as `make soak ARGS="--layer http"` runs it.

The program is started as a user starts it, with a credential that a plugin prints and
two workers; what it holds is read from its own metrics and from /proc.
"""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from loadtests.http_files import make_certificates
from loadtests.process import Process, free_port
from loadtests.soak_clients import PATIENCE_S, Board
from loadtests.soak_http_clients import HttpClient, read_slowly
from loadtests.soak_scene import (
    STORMERS,
    Rest,
    at_once,
    holds,
    reset_when_closed,
    ticks,
)

SLOW_READERS = 6
GARBAGE = [
    b"",
    b"GET /api/sized?size=2000000&start=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT /api/taken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nshort",
    b"GET /api/x HTTP/1.1\r\nHost: loc",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /api/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
]
IDLE_SHARE = 0.2  # of a core, at rest


class HttpScene:
    """Everybody in it."""

    def __init__(
        self, board: Board, dice: random.Random, folder: Path, seconds: float
    ) -> None:
        self.board, self.dice, self.folder, self.seconds = board, dice, folder, seconds
        self.processes: dict[str, Process] = {}
        self.tokens = folder / "tokens"
        self.credential = folder / "credential.json"
        self.port, self.admin, self.server_port = free_port(), free_port(), 0
        self.serial = 0

    def start(self, workers: int) -> None:
        """The server, then the proxy."""
        make_certificates(self.folder / "ca.pem", self.folder / "server.pem")
        self.new_token()
        self.start_server()
        config = self.folder / "kubeconfig"
        config.write_text(json.dumps(self.kubeconfig()))
        command = [sys.executable, "-m", "pyproxy", "kubectl-proxy"]
        command += [f"--kubeconfig={config}", f"--port={self.port}"]
        command += [f"--admin-address=127.0.0.1:{self.admin}", f"--workers={workers}"]
        command += ["--reject-paths=^$"]  # or no exec
        self.processes["proxy"] = Process(command, None, self.folder / "proxy.log")
        self.processes["proxy"].wait_listening(self.port)

    def start_server(self) -> None:
        """Start it, on the port that it had if it had one."""
        if old := self.processes.pop("server", None):
            old.stop()
        command = [sys.executable, "-m", "loadtests.soak_http_peers"]
        command += [str(self.folder / "server.pem"), str(self.tokens)]
        command += [str(self.server_port)] if self.server_port else []
        process = Process(command, None, self.folder / "server.log")
        self.processes["server"] = process
        self.server_port = int(process.line())

    def kubeconfig(self) -> dict[str, Any]:
        """Where the server is, and who we are."""
        server = f"https://localhost:{self.server_port}"
        cluster = {"server": server, "certificate-authority": "ca.pem"}
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "cat",
            "args": [str(self.credential)],
            "interactiveMode": "Never",
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "soak",
            "clusters": [{"name": "soak", "cluster": cluster}],
            "users": [{"name": "soak", "user": {"exec": plugin}}],
            "contexts": [
                {"name": "soak", "context": {"cluster": "soak", "user": "soak"}}
            ],
        }

    def new_token(self) -> None:
        """The plugin says another one; after that the old ones are bad at once."""
        self.serial += 1
        token = f"token-{self.serial}"
        said = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": token},
        }
        for path, text in ((self.credential, json.dumps(said)), (self.tokens, token)):
            new = path.with_suffix(".new")
            new.write_text(text)
            new.rename(path)

    def phases(self) -> "Sequence[tuple[Callable[[HttpScene], None], bool]]":
        """The faults, and whether each may cost requests."""
        return PHASES

    def client(self, number: int) -> threading.Thread:
        """One more client, at work."""
        return HttpClient(number, ("127.0.0.1", self.port), self.board)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.child.send_signal(signal.SIGCONT)
            process.stop()

    def metrics(self) -> dict[str, float]:
        """Sums over all labels, and the causes of ends by themselves."""
        url = f"http://127.0.0.1:{self.admin}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name
                if name == "pyproxy_relays_total":
                    name = sample.labels["reason"]
                found[name] = found.get(name, 0) + sample.value
        return found

    def look(self) -> Rest:
        """What the proxy holds while it is idle."""
        end = time.monotonic() + PATIENCE_S
        while (metrics := self.metrics())["pyproxy_relays_active"]:
            if time.monotonic() > end:
                self.board.failures.append(f"never idle: {metrics}")
                break
            time.sleep(0.05)
        pid = self.processes["proxy"].child.pid
        before, begin = cpu_s(pid), time.monotonic()
        time.sleep(0.5)
        share = (cpu_s(pid) - before) / (time.monotonic() - begin)
        kept = int(self.metrics()["pyproxy_backend_active"])
        time.sleep(0.1)  # the connection of those metrics ends
        kib, descriptors = holds(pid)
        return Rest(
            connections=int(metrics["pyproxy_relays_accepted_total"]),
            anonymous_kib=kib,
            descriptors=descriptors - kept,
            wrong=f"{share:.0%} of a core" if share > IDLE_SHARE else "",
        )

    def summary(self) -> list[str]:
        """What the proxy counted."""
        metrics = self.metrics()
        ends = ", ".join(
            f"{name} {value:,.0f}"
            for name, value in metrics.items()
            if value and not name.startswith(("pyproxy", "process", "python"))
        )
        replays = metrics["pyproxy_http_replays_total"]
        asked = metrics["pyproxy_verdicts_total"]
        return [
            f"connections ended: {ends}",
            f"requests sent again: {replays:,.0f}; verdicts: {asked:,.0f}",
            f"credentials that expired: {self.serial - 1:,}",
        ]

    def ticks(self, pause_s: float) -> Iterator[None]:
        """Moments until the phase is over."""
        return ticks(self.seconds, pause_s)


def cpu_s(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- Phases. Those that are lenient may cost requests.


def expiries(scene: HttpScene) -> None:
    """Credentials expire under way; only large uploads may notice."""
    for _ in scene.ticks(1.3):  # a plugin is not run twice within a second
        scene.new_token()


def reloads(scene: HttpScene) -> None:
    """SIGHUP, and a kubeconfig that is written anew."""
    config = scene.folder / "kubeconfig"
    for _ in scene.ticks(0.3):
        config.write_text(config.read_text() + "\n")
        scene.processes["proxy"].child.send_signal(signal.SIGHUP)


def stops(scene: HttpScene) -> None:
    """The server is stopped and goes on."""
    for _ in scene.ticks(0.3):
        pid = scene.processes["server"].child.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(min(1.0, scene.seconds / 3))
        os.kill(pid, signal.SIGCONT)


def storms(scene: HttpScene) -> None:
    """Clients say something odd, or half of something, and reset."""

    def storm() -> None:
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", scene.port), 5) as client,
            ):
                client.send(scene.dice.choice(GARBAGE))
                if scene.dice.random() < 0.3:
                    client.settimeout(0.01)
                    client.recv(100)
                reset_when_closed(client)

    end = time.monotonic() + scene.seconds
    at_once(storm, STORMERS)


def slow_readers(scene: HttpScene) -> None:
    """Some clients are slow; no other client waits for them."""
    end = time.monotonic() + scene.seconds
    address = ("127.0.0.1", scene.port)
    at_once(lambda: read_slowly(address, scene.board, end), SLOW_READERS)


def kills(scene: HttpScene) -> None:
    """The server dies and is started again on its port."""
    for _ in scene.ticks(1.0):
        scene.processes["server"].child.kill()
        scene.processes["server"].child.wait()
        time.sleep(0.5)  # refused meanwhile
        scene.start_server()


def exhaustion(scene: HttpScene) -> None:
    """Descriptors run out, with clients that hold on to theirs."""
    pid = scene.processes["proxy"].child.pid
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    _, held = holds(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 10, old[1]))
    hogs = []
    for _ in scene.ticks(0.1):
        with contextlib.suppress(OSError):
            hogs.append(socket.create_connection(("127.0.0.1", scene.port), 1))
    for hog in hogs:
        hog.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    time.sleep(0.5)


PHASES: list[tuple[Callable[[HttpScene], None], bool]] = [
    (expiries, False),
    (reloads, False),
    (stops, False),
    (storms, False),
    (slow_readers, False),
    (kills, True),
    (exhaustion, True),
]
