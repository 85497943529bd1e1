"""A run over HTTP in rounds, and the memory of idle watches."""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import http_contenders
from loadtests.bench import PacedBench, say
from loadtests.contenders import Address, Contender
from loadtests.http_contenders import HttpSetup
from loadtests.http_files import Files
from loadtests.http_measure import WORKS, HttpGenerator
from loadtests.idle import SETTLE_S, anonymous_bytes

STEP = 250  # watches opened at a time
STEPS = 4


class HttpBench(PacedBench):
    """One run: the upstream, the contenders, and what was measured."""

    slowpoke = "kubectl"

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(options, folder)
        self.files = Files(folder)
        self.files.make()
        self.configurations: dict[str, str] = {}

    def setup(self, name: str, *backends: Sequence[Address]) -> HttpSetup:
        """Settings for one more contender."""
        plain = super().setup(name, *backends)
        fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
        return HttpSetup(**fields, files=self.files)

    def run_rounds(self) -> None:
        """All works that are measured in rounds."""
        with ExitStack() as stack:
            generator = self._generator(stack)
            field: list[Contender | None] = [None]
            names = self.options.contenders
            field += [self._start(name, generator, stack) for name in names]
            for name in self.options.works:
                if name in WORKS:
                    self._work(generator, self._rated(WORKS[name]), field)

    def _generator(self, stack: ExitStack) -> HttpGenerator:
        return HttpGenerator(stack, self.generator_cores, self.folder, self.files)

    def _start(
        self, name: str, generator: HttpGenerator, stack: ExitStack
    ) -> Contender:
        to = [("127.0.0.1", generator.echo_port)]
        setup = self.setup(name, to, to)
        contender = http_contenders.start(name, setup, stack)
        self.configurations[name] = http_contenders.configuration(name, setup.folder)
        return contender

    def run_memory(self) -> list[dict[str, Any]]:
        """User memory of an idle watch: of every contender, and of TLS alone.

        TLS alone: what one more connection costs a process that does nothing but
        hold it; with TLS (our client, straight to the upstream) less without (our
        client, through a proxy).
        """
        found: list[dict[str, Any]] = []
        with ExitStack() as stack:
            generator = self._generator(stack)
            plain_port = 0
            for name in self.options.contenders:
                with ExitStack() as own:
                    contender = self._start(name, generator, own)
                    plain_port = contender.ports[-1]
                    proxied = _slope(generator, contender)
                    if not found:
                        found.append(_tls_alone(generator, plain_port))
                    found.append({"contender": name, **proxied})
                say(f"memory {name}: {proxied['bytes_per_watch']:,.0f} per watch")
        return found


def _line(points: Sequence[tuple[int, int]]) -> dict[str, Any]:
    x, y = zip(*points, strict=True)
    return {
        "bytes_per_watch": statistics.linear_regression(x, y).slope,
        "r2": statistics.correlation(x, y) ** 2 if len(set(y)) > 1 else 1.0,
        "counts": list(x),
        "bytes": list(y),
    }


def _slope(generator: HttpGenerator, contender: Contender) -> dict[str, Any]:
    port = contender.ports[-1]
    # Opened and closed beforehand: one-time allocations are no slope.
    generator.hold(port, STEP).stop()
    time.sleep(SETTLE_S)
    points = [(0, anonymous_bytes(contender.process.pids))]
    with ExitStack() as clients:
        for step in range(1, STEPS + 1):
            clients.enter_context(generator.hold(port, STEP))
            time.sleep(SETTLE_S)
            points.append((step * STEP, anonymous_bytes(contender.process.pids)))
    return _line(points)


def _client_slope(generator: HttpGenerator, port: int) -> float:
    points = []
    for step in range(1, STEPS + 1):
        with generator.hold(port, step * STEP) as client:
            points.append((step * STEP, anonymous_bytes([client.child.pid])))
    return float(_line(points)["bytes_per_watch"])


def _tls_alone(generator: HttpGenerator, plain_port: int) -> dict[str, Any]:
    with_tls = _client_slope(generator, generator.echo_port)
    plain = _client_slope(generator, plain_port)
    say(f"memory of TLS alone: {with_tls:,.0f} - {plain:,.0f} per watch")
    return {"contender": "TLS alone", "bytes_per_watch": with_tls - plain, "r2": 1.0}
