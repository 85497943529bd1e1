"""A run in rounds: what is started how, in which order, and what is measured again."""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests import contenders, netns, process, report
from loadtests.contenders import Contender, Forward, Setup
from loadtests.measure import WORKS, Generator, Sample, Work

SPARE = 1.2  # below this many times the rate of `half`, `half` overloads it
REPEATS = 2  # of a sample that other programs disturbed
LOOK_S = 0.25  # how long to look whether the machine is quiet


def say(text: str) -> None:
    """Progress, apart from the report."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def busy_cores(seconds: float) -> float:
    """How many cores' worth of time was not idle during the next `seconds`."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    times = []
    for pause in (seconds, 0.0):
        idle, iowait = Path("/proc/stat").read_text().split()[4:6]
        times.append((time.monotonic(), (int(idle) + int(iowait)) * tick_s))
        time.sleep(pause)
    wall, idle_s = (times[1][i] - times[0][i] for i in (0, 1))
    return (os.cpu_count() or 1) - idle_s / wall


def line(sample: Sample) -> str:
    """One sample in short, for the eye during a run."""
    wall = sample.wall_s
    shares = f"proxy {sample.proxy_s / wall:.2f} generator "
    shares += f"{(sample.client_s + sample.server_s) / wall:.2f} foreign "
    shares += f"{sample.foreign:.2f}"
    tail = f" p99 {sample.p99_us:.0f} us" if sample.p99_us is not None else ""
    return (
        f"{sample.work:6} {sample.round} {sample.contender:15} {sample.rate:14,.0f}/s "
        f"{sample.proxy_cpu * 1e9:10.2f} ns each  {shares}"
        f"{tail}{' ERRORS ' + str(sample.errors) if sample.errors else ''}"
    )


class Bench:
    """One run: the generator, the contenders, and what was measured."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.samples: list[Sample] = []
        self.patience_s = options.patience
        self.proxy_cores = None if options.box else [0]
        self.generator_cores = None if options.box else [1]
        self.workers = 2 if options.box else 1
        self.descriptors = process.raise_descriptor_limit()
        self.ports = iter(netns.LISTEN_PORTS)

    def setup(self, name: str, *backends: Sequence[contenders.Address]) -> Setup:
        """Settings for one more contender: a vip per pool, the second for bulk."""
        forwards = tuple(
            Forward(next(self.ports), tuple(pool), bulk=number == 1)
            for number, pool in enumerate(backends)
        )
        cores, folder = self.proxy_cores, self.folder / name
        return Setup(forwards, self.workers, cores, self.descriptors, folder)

    def run_rounds(self) -> None:
        """All works that are measured in rounds."""
        works = [WORKS[name] for name in self.options.works if name in WORKS]
        with ExitStack() as stack:
            generator = Generator(stack, self.generator_cores, self.folder)
            echo = [("127.0.0.1", generator.echo_port)]
            bulk = [("127.0.0.1", generator.bulk_port)]
            field: list[Contender | None] = [None]
            for name in self.options.contenders:
                setup = self.setup(name, echo, bulk)
                field.append(contenders.start(name, setup, stack))
            for work in works:
                self._work(generator, self._rated(work), field)

    def _rated(self, work: Work) -> Work:
        if work.name != "half":
            return work
        measured = report.Samples(self.samples, "rr")
        names = [name for name in measured.names if name != "direct"]
        slowest = min(measured.values(name, "rate").median for name in names)
        return dataclasses.replace(work, rate=slowest / 2)

    def _work(
        self, generator: Generator, work: Work, field: Sequence[Contender | None]
    ) -> None:
        # HAProxy's two ways to splice differ only for streams.
        if not work.bulk:
            field = [c for c in field if c is None or c.name != "haproxy-forced"]
        for number in range(self.options.rounds):
            self._round(generator, work, field, number)
        # As many more as there were doubtful rounds, at most two.
        doubtful = report.Samples(self.samples, work.name).flagged
        extra = 0 if self.options.quick else min(2, len(doubtful))
        for number in range(self.options.rounds, self.options.rounds + extra):
            self._round(generator, work, field, number)

    def _round(
        self,
        generator: Generator,
        work: Work,
        field: Sequence[Contender | None],
        number: int,
    ) -> None:
        first = number % len(field)
        for contender in [*field[first:], *field[:first]]:
            sample = self._sample(generator, work, contender, number)
            self.samples.append(sample)
            say(line(sample))

    def _sample(
        self, generator: Generator, work: Work, contender: Contender | None, number: int
    ) -> Sample:
        tries = []
        for _ in range(1 + REPEATS):
            self._wait_quiet()
            begin = time.monotonic()
            tries.append(
                generator.measure(work, contender, number, self.options.seconds)
            )
            if tries[-1].foreign < report.FOREIGN or self.patience_s <= 0:
                break
            self.patience_s -= time.monotonic() - begin
        return min(tries, key=lambda sample: sample.foreign)

    def _wait_quiet(self) -> None:
        """Wait while others use the machine, as long as patience lasts."""
        while self.patience_s > 0 and busy_cores(LOOK_S) > report.FOREIGN:
            self.patience_s -= LOOK_S


class PacedBench(Bench):
    """One whose work `half` follows `get`, and leaves out what cannot keep up."""

    # So much slower than the others that half of its rate is no load for them.
    slowpoke = ""

    def _rate(self, name: str) -> float:
        return report.Samples(self.samples, "get").values(name, "rate").median

    def _rated(self, work: Work) -> Work:
        if work.name != "half":
            return work
        names = [name for name in self.options.contenders if name != self.slowpoke]
        slowest = min(self._rate(name) for name in names or [self.slowpoke])
        return dataclasses.replace(work, rate=slowest / 2)

    def _work(
        self,
        generator: Generator,
        work: Work,
        field: Sequence[Contender | None],
    ) -> None:
        if work.name == "half":
            enough = SPARE * work.rate
            slow = [c for c in field if c and self._rate(c.name) < enough]
            for contender in slow:
                say(f"half: {contender.name} cannot do {enough:,.0f}/s: left out")
            field = [c for c in field if c not in slow]
        super()._work(generator, work, field)
