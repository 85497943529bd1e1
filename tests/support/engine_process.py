"""An engine in a process of its own: to starve it, weigh it, and let it crash.

`EngineProcess(backends, ...)` starts this file as a program, which prints where it
listens and then answers one command a line with one line of JSON.
"""

import contextlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastpath import (
    Backend,
    Engine,
    EngineError,
    Http,
    Pool,
    Reply,
    Stats,
    Table,
    Vip,
)
from fastpath.api.spec import Protocol
from tests.support.waiting import scaled

# Nothing can be said about memory where the sanitizer keeps what was freed.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


class EngineProcess:
    """The child, as its parent sees it. `options` are those of `serve`."""

    def __init__(self, *backends: tuple[str, int], **options: Any) -> None:
        options["backends"] = [list(backend) for backend in backends]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engine_process", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        host, port = self._answer()
        self.address = (str(host), int(port))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ask(self, command: str) -> Any:
        """Send a command and return the answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(command + "\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, f"the engine's process ended: {self._child.wait(scaled(10))}"
        return json.loads(line)

    @property
    def drops(self) -> dict[str, int]:
        """Why relays ended so far."""
        return dict(self.ask("stats")["drops"])

    @property
    def lost(self) -> dict[str, int]:
        """Why datagrams were lost so far."""
        return dict(self.ask("stats")["lost"])

    @property
    def flows(self) -> int:
        """Live flows of UDP."""
        return int(self.ask("stats")["flows"])

    @property
    def turns(self) -> int:
        """Turns of all event loops."""
        return int(self.ask("stats")["turns"])

    @property
    def active(self) -> int:
        """Live relays."""
        return int(self.ask("stats")["active"])

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def anonymous_bytes(self) -> int:
        """Its own memory that is in RAM."""
        return memory(self.pid, "RssAnon")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            code = self._child.wait(scaled(20))
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            raise
        finally:
            self._child.stdout.close()
        assert code == 0 or error is not None, f"the engine's process ended: {code}"


def memory(pid: int | str, field: str) -> int:
    """A field of /proc/PID/status in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


# ---- The child.


def say(value: object) -> None:
    """One line of JSON to the parent."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def summary(stats: Stats) -> dict[str, Any]:
    """What tests ask for, as plain values."""
    drops: dict[str, int] = {}
    for vip in stats.vips.values():
        for reason in vip.closed:
            drops[reason] = (
                drops.get(reason, 0) + vip.closed[reason] + vip.refused[reason]
            )
    return {
        "drops": {reason: count for reason, count in drops.items() if count},
        "lost": {
            reason: count
            for vip in stats.vips.values()
            for reason, count in (vip.udp.dropped if vip.udp else {}).items()
            if count
        },
        "flows": stats.flows_active,
        "active": stats.relays_active,
        "accepted": stats.relays_total,
        "turns": sum(w.turns for w in stats.workers),
        "spills": sum(w.spills for w in stats.workers),
        "pipes": sum(w.pipes for w in stats.workers),
    }


def apply_changes(engine: Engine, vip: Vip, count: int) -> int:
    """Apply tables that differ in everything; return the last generation."""
    hosts = [Backend("127.0.0.1", 10_000 + k, weight=1 + k % 7) for k in range(200)]
    for number in range(count):
        chosen = tuple(hosts[number % 50 : number % 50 + 100])
        balance = ("ring", "round-robin", "least")[number % 3]
        other = Vip("127.0.0.2", 0, "tcp", Pool(chosen, balance=balance))  # type: ignore[arg-type]
        limited = Vip("127.0.0.3", 0, "tcp", max_connections_per_source=5)
        engine.apply(Table([vip, [other, limited][number % 2]]))
    return engine.apply(Table([vip]))


def answer_all(engine: Engine) -> None:
    """Say yes to every request, once and for all paths."""
    with contextlib.suppress(EngineError, OSError):  # it was closed
        while select.select([engine.questions_fileno()], [], []):
            for question in engine.questions():
                engine.answer(question, Reply(200, b"yes"), ttl_s=60.0, key=())


def serve(
    backends: list[list[Any]],
    nofile: int = 0,
    data_bytes: int = 0,
    workers: int = 1,
    splice: bool = True,
    deadly_sigpipe: bool = False,
    http: bool = False,
    protocol: Protocol = "tcp",
    flows_most: int | None = None,
    **vip_options: Any,
) -> None:
    """Run an engine within limits until standard input ends."""
    if deadly_sigpipe:  # Python ignores it; a program that embeds us may not
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    pool = Pool(tuple(Backend(host, port) for host, port in backends))
    how = {"http": Http()} if http else {"pool": pool}
    vip = Vip("127.0.0.1", 0, protocol, **how, **vip_options)
    if nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    with Engine(workers=workers, splice=splice, flows_most=flows_most) as engine:
        engine.apply(Table([vip]))
        if http:
            threading.Thread(target=answer_all, args=[engine], daemon=True).start()
        say(engine.address(vip))
        if data_bytes:
            most = memory("self", "VmData") + data_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        for line in sys.stdin:
            word, *rest = line.split()
            if word == "apply":
                answer: Any = apply_changes(engine, vip, int(rest[0]))
            elif word == "reset":
                answer = engine.reset()  # type: ignore[func-returns-value]
            else:
                answer = summary(engine.stats())
            say(answer)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
