"""One measurement over HTTP: which requests, what they must be answered with.

The upstream (native/upstream.c) counts connections, resumed handshakes and requests;
what it counted during a sample goes into the sample's notes: it tells which dials anew
although connections could be kept, and which resumes TLS sessions.
"""

import dataclasses
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.contenders import Contender
from loadtests.http_files import TOKEN, Files
from loadtests.measure import BUILD, Generator, Sample, Work
from loadtests.process import Process

COUNTED = ("accepted", "resumed", "requests", "refused", "stuck")
OPEN_S = 30  # what the client allows for opening its watches

# As many paths as this: a proxy that remembers something per path has to do so often.
NAMES = 1000
PODS = "/api/v1/namespaces/default/pods"
WATCH = PODS + "?watch=true&allowWatchBookmarks=true&n="
EXEC = PODS + "/web-0/exec?command=cat&stdin=true&stdout=true"
UPGRADE = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: "


@dataclasses.dataclass(frozen=True)
class HttpWork(Work):
    """What the client asks for: '#' in the target is a number."""

    method: str = "GET"
    target: str = PODS
    names: int = 1
    headers: str = "Accept-Encoding: identity\r\n"  # or Go's client asks for gzip
    body: str = "small"
    stream: bool = False  # goes to the listener for streams, where there is one

    def request(self, port: int, direct: bool) -> str:
        """The whole request."""
        added = f"Authorization: Bearer {TOKEN}\r\nX-Forwarded-For: 127.0.0.1\r\n"
        return (
            f"{self.method} {self.target} HTTP/1.1\r\n"
            f"Host: localhost:{port}\r\n"
            "User-Agent: kubectl/v1.37.1 (linux/amd64) kubernetes/f0bb0ba\r\n"
            "Accept: application/json\r\n"
            f"{self.headers}{added if direct else ''}\r\n"
        )


GET = HttpWork("get", "get", 32, target=PODS + "/web-#", names=NAMES)
WORKS = {
    "get": GET,
    "get128": dataclasses.replace(GET, name="get128", connections=128),
    "get512": dataclasses.replace(GET, name="get512", connections=512),
    # Each path is met for the first time; one with an escape is never read by prefix.
    "paths": dataclasses.replace(GET, name="paths", names=100 * NAMES),
    "odd": dataclasses.replace(
        GET, name="odd", names=400 * NAMES, target=PODS + "/web%2D#"
    ),
    "half": dataclasses.replace(GET, name="half"),  # its rate comes from `get`
    "list": HttpWork("list", "list", 4, body="list"),
    "list-gzip": HttpWork(
        "list-gzip", "list", 4, headers="Accept-Encoding: gzip\r\n", body="gzip"
    ),
    "fresh": HttpWork(
        "fresh", "fresh", 32, target="/api/v1/namespaces/once/pods/web-#", names=NAMES
    ),
    "watch": HttpWork(
        "watch", "watch", 1000, stream=True, target=WATCH + "#", names=NAMES
    ),
    "exec": HttpWork(
        "exec",
        "exec",
        4,
        stream=True,
        method="POST",
        target=EXEC,
        headers=UPGRADE + "v4.channel.k8s.io\r\nContent-Length: 0\r\n",
    ),
}
# Never a number that gets events.
IDLE_WATCH = dataclasses.replace(WORKS["watch"], name="idle", target=WATCH + "#1")


class HttpGenerator(Generator):
    """The upstream behind every contender, and clients on demand."""

    def __init__(
        self,
        stack: ExitStack,
        cores: Sequence[int] | None,
        folder: Path,
        files: Files,
    ) -> None:
        self.cores = cores
        self.folder = folder
        self.files = files
        self.log = folder / "upstream.log"
        bodies = [str(files.body(name)) for name in ("small", "list", "gzip")]
        command = [str(BUILD / "upstream"), str(files.server), TOKEN, *bodies]
        self.server = stack.enter_context(Process(command, cores, self.log))
        self.echo_port = int(self.server.line().split()[1])

    def port(self, work: Work, contender: Contender | None) -> int:
        """Where the client goes; None = straight to the upstream."""
        if contender is None:
            return self.echo_port
        assert isinstance(work, HttpWork)
        return contender.ports[-1 if work.stream else 0]

    def options(self, work: Work, port: int) -> list[str]:
        """Of a client that goes to `port`; to the upstream it speaks TLS."""
        assert isinstance(work, HttpWork)
        direct = port == self.echo_port
        request = self.folder / f"{work.name}-{port}.request"
        request.write_bytes(work.request(port, direct).encode())
        options = [*work.options(), "--request", str(request)]
        options += ["--names", str(work.names)]
        options += ["--expect", str(self.files.body(work.body))]
        return options + (["--ca", str(self.files.authority)] if direct else [])

    def result(self, client: subprocess.Popen[str], timeout_s: float) -> dict[str, Any]:
        """Wait for a client and read its result."""
        return super().result(client, timeout_s + OPEN_S)

    def measure(
        self,
        work: Work,
        contender: Contender | None,
        number: int,
        seconds: float,
        warm_s: float = 0.3,
    ) -> Sample:
        """One window of `work` against one contender."""
        before = self.counted()
        sample = super().measure(work, contender, number, seconds, warm_s)
        after = self.counted()
        notes = {name: after[name] - before[name] for name in COUNTED}
        errors = sample.errors + notes["refused"]
        notes = {**sample.notes, **notes}
        return dataclasses.replace(sample, errors=errors, notes=notes)

    def counted(self) -> dict[str, int]:
        """The upstream's counters."""
        self.server.tell("stats")
        numbers = map(int, self.server.line().split()[1:])
        return dict(zip(COUNTED, numbers, strict=True))

    def hold(self, port: int, count: int) -> Process:
        """A client with so many idle watches; it has opened them on return."""
        options = [*self.options(IDLE_WATCH, port), "--connections", str(count)]
        command = [str(BUILD / "client"), *options, "--to", f"127.0.0.1:{port}"]
        client = Process([*command, "--hold"], self.cores, self.log)
        opened = client.line()
        if opened != f"ready {count}":
            client.stop()
            raise RuntimeError(f"{opened} watches of {count}")
        return client
