"""One measurement: the load generator against one contender, and what it cost.

Rates and latencies come from the client. CPU is sampled by the client, too, at the
edges of the window in which it counts work:
- of processes by their CPU clocks (nanoseconds on CPU, all threads). The kernel's work
  in a process' name (system calls, and on loopback most of the receiving TCP stack) is
  in there;
- of the machine as wall time minus idle minus stolen time of every core. That includes
  kernel threads and interrupts, so nothing hides; and other programs, which are
  reported as `foreign`.
"""

import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.contenders import ROOT, Contender
from loadtests.process import Process, before_exec

NATIVE = Path(__file__).with_name("native")
BUILD = ROOT / "build" / "loadtests"
CFLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
HTTP = ["http.c", "event.c", "link.c"]
SOURCES = {
    "client": [
        *("client.c", "rr.c", "crr.c", "bulk.c"),
        *("get.c", "watch.c", "exec.c", "udp.c"),
    ],
    "server": ["server.c"],
    "newcomers": ["newcomers.c"],
    "udp_server": ["udp_server.c"],
    "upstream": ["upstream.c", "whole.c"],
}
LIBRARIES = ["-lm", "-lssl", "-lcrypto"]
SPREAD = 16  # destination addresses that `crr` uses in turn: on loopback there are many


def build() -> None:
    """Compile the load generator where it is older than its sources."""
    BUILD.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in NATIVE.iterdir())
    for name, sources in SOURCES.items():
        target = BUILD / name
        if target.exists() and target.stat().st_mtime > newest:
            continue
        shared = ["common.c", *(HTTP if name in ("client", "upstream") else [])]
        files = [str(NATIVE / source) for source in [*sources, *shared]]
        command = ["gcc", *CFLAGS, "-o", str(target), *files, *LIBRARIES]
        subprocess.run(command, check=True)


@dataclass(frozen=True)
class Work:
    """What the client does."""

    name: str
    program: str  # rr, crr or bulk
    connections: int
    bulk: bool = False  # goes to the bulk vip
    upload: bool = False
    rate: float = 0.0  # offered per second; 0 = as fast as answers come
    spread: int = SPREAD  # addresses that `crr` dials in turn

    def options(self) -> list[str]:
        """Of the client program."""
        options = [self.program, "--connections", str(self.connections)]
        if self.upload:
            options.append("--upload")
        if self.rate:
            options += ["--rate", f"{self.rate:.0f}"]
        if self.program == "crr":
            options += ["--spread", str(self.spread)]
        return options


WORKS = {
    "rr": Work("rr", "rr", 64),
    "half": Work("half", "rr", 64),  # its rate comes from the run of `rr`
    "bulk1": Work("bulk1", "bulk", 1, bulk=True),
    "bulk8": Work("bulk8", "bulk", 8, bulk=True),
    "up1": Work("up1", "bulk", 1, bulk=True, upload=True),
    "up8": Work("up8", "bulk", 8, bulk=True, upload=True),
    "crr": Work("crr", "crr", 32),
}


@dataclass(frozen=True)
class Sample:
    """One window of one contender. `unit`: a request, a byte or a connection."""

    work: str
    contender: str
    round: int
    wall_s: float
    units: int
    errors: int  # lost, failed, or wrong; a good run has none
    proxy_s: float  # CPU of the proxy's processes
    client_s: float
    server_s: float
    machine_s: float  # all cores, not idle
    foreign_s: float  # of that, what none of ours used by its clock
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    notes: dict[str, int] = field(default_factory=dict)  # what else was counted

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.wall_s

    @property
    def proxy_cpu(self) -> float:
        """CPU seconds of the proxy per unit."""
        return self.proxy_s / self.units

    @property
    def machine_cpu(self) -> float:
        """CPU seconds of the machine per unit."""
        return self.machine_s / self.units

    @property
    def foreign(self) -> float:
        """Cores' worth of time that other programs took."""
        return self.foreign_s / self.wall_s

    def metric(self, name: str) -> float:
        """Value of one of the names that reports use."""
        value = getattr(self, name)
        return float("nan") if value is None else float(value)


class Generator:
    """The server that stands behind every contender, and clients on demand."""

    program = "server"
    host = "127.0.0.1"  # where clients go
    prefix: Sequence[str] = ()  # of the client's command: where it runs

    def __init__(
        self, stack: ExitStack, cores: Sequence[int] | None, folder: Path
    ) -> None:
        self.cores = cores
        self.folder = folder
        self.log = folder / "server.log"
        command = [str(BUILD / self.program)]
        self.server = stack.enter_context(Process(command, cores, self.log))
        ready = self.server.line().split()
        self.echo_port, self.bulk_port = int(ready[1]), int(ready[2])

    def port(self, work: Work, contender: Contender | None) -> int:
        """Where the client goes; None = straight to the server."""
        if contender is None:
            return self.bulk_port if work.bulk else self.echo_port
        return contender.ports[1 if work.bulk else 0]

    def options(self, work: Work, port: int) -> list[str]:
        """Of a client that goes to `port`."""
        return work.options()

    def start(
        self,
        work: Work,
        port: int,
        pids: Sequence[int],
        warm_s: float,
        measure_s: float,
    ) -> subprocess.Popen[str]:
        """Start a client; its result is one line of JSON on its standard output."""
        watched = [self.server.child.pid, *pids]
        command = [
            *self.prefix,
            str(BUILD / "client"),
            *self.options(work, port),
            *("--to", f"{self.host}:{port}"),
            *("--warm-ms", f"{warm_s * 1e3:.0f}"),
            *("--measure-ms", f"{measure_s * 1e3:.0f}"),
            *("--pids", ",".join(map(str, watched))),
        ]
        with self.log.open("ab") as errors:
            return subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=before_exec(self.cores),
            )

    def result(self, client: subprocess.Popen[str], timeout_s: float) -> dict[str, Any]:
        """Wait for a client and read its result."""
        try:
            out, _ = client.communicate(timeout=timeout_s)
        finally:
            if client.poll() is None:
                client.kill()
                client.wait()
        if client.returncode != 0:
            raise RuntimeError(f"client failed: {self.log.read_text()[-500:]}")
        result: dict[str, Any] = json.loads(out)
        return result

    def measure(
        self,
        work: Work,
        contender: Contender | None,
        number: int,
        seconds: float,
        warm_s: float = 0.3,
    ) -> Sample:
        """One window of `work` against one contender."""
        pids = contender.pids if contender else []
        port = self.port(work, contender)
        client = self.start(work, port, pids, warm_s, seconds)
        result = self.result(client, seconds + warm_s + 20)
        errors = sum(result.get(k, 0) for k in ("lost", "wrong", "failed_all"))
        if work.bulk:
            errors += self._cut_short(work, result["total"])
        name = contender.name if contender else "direct"
        return self._sample(work, name, number, result, errors)

    def _cut_short(self, work: Work, total: int) -> int:
        """Whether the two ends disagree about the bytes of their streams: 0 or 1."""
        moved = sum(int(self.server.line().split()[1]) for _ in range(work.connections))
        return int(moved != total)

    def _sample(
        self, work: Work, name: str, number: int, result: dict[str, Any], errors: int
    ) -> Sample:
        server = str(self.server.child.pid)
        wall, cpus = result["wall_s"], len(result["idle_s"])
        away = sum(result["idle_s"]) + sum(result["steal_s"])
        machine = wall * cpus - away
        proxy = sum(s for pid, s in result["pids"].items() if pid != server)
        known = proxy + result["pids"][server] + result["client_s"]
        return Sample(
            work=work.name,
            contender=name,
            round=number,
            wall_s=wall,
            units=max(1, result["units"]),
            errors=errors,
            proxy_s=proxy,
            client_s=result["client_s"],
            server_s=result["pids"][server],
            machine_s=machine,
            foreign_s=machine - known,
            p50_us=result.get("p50_us"),
            p99_us=result.get("p99_us"),
            p999_us=result.get("p999_us"),
            notes={"merged": result["merged"]} if "merged" in result else {},
        )
