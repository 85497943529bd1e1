"""UDP flows: ours, nginx stream and Envoy side by side in one run.

    python -m loadtests.udp [--quick] [--box] [--write] [--contenders ours,nginx]

Works: `udp` 64-byte questions of 1,000 clients; `train` 1,200-byte datagrams of four
clients, 40 in one piece (UDP_SEGMENT), as QUIC stacks send them; `burst` the same
datagrams one by one. All are echoed, and each byte that comes back is checked.

Placement and rounds are those of `loadtests.relay`. The figure that counts is CPU of
the proxy for each datagram that came back: there and back, so two are forwarded.
"""

import argparse
import dataclasses
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests import netns, relay, report, udp_contenders
from loadtests.bench import Bench, say
from loadtests.command import command_line, read, refuse_missing, write
from loadtests.measure import Generator, Sample, Work, build
from loadtests.report import Bar, table

if TYPE_CHECKING:
    from loadtests.contenders import Contender

CLIENTS = 1_000
WORKS = {
    "udp": Work("udp", "udp", CLIENTS),
    "train": Work("train", "train", 4),
    "burst": Work("burst", "burst", 4, bulk=True),
}
TITLES = {
    "udp": "64-byte datagrams of 1,000 clients",
    "train": "1,200-byte datagrams, 40 in one piece",
    "burst": "the same, sent one by one",
}
BARS = (
    Bar("udp", "proxy_cpu", "CPU per datagram", 1 / 1.5, 1 / 1.5, against=("nginx",)),
    Bar("udp", "proxy_cpu", "CPU per datagram", 1 / 1.5, 1 / 1.5, against=("envoy",)),
    Bar("train", "proxy_cpu", "CPU per datagram", 1 / 3, 1 / 6, against=("nginx",)),
    Bar("burst", "proxy_cpu", "CPU per datagram", 1 / 2, 1 / 3, against=("nginx",)),
)


class UdpGenerator(Generator):
    """The server of datagrams, and its clients."""

    program = "udp_server"

    def _cut_short(self, work: Work, total: int) -> int:
        """Datagrams are checked by the client."""
        return 0

    def result(self, client: Any, timeout_s: float) -> dict[str, Any]:
        """Datagrams may be lost: a note, and no error."""
        found = super().result(client, timeout_s)
        found["merged"] = found.pop("lost_datagrams")
        found["total"] = 0
        return found


class UdpBench(Bench):
    """One run."""

    def run_rounds(self) -> None:
        """All works."""
        with ExitStack() as stack:
            generator = UdpGenerator(stack, self.generator_cores, self.folder)
            echo = [("127.0.0.1", generator.echo_port)]
            plain = [("127.0.0.1", generator.bulk_port)]
            field: list[Contender | None] = [None]
            for name in self.options.contenders:
                setup = self.setup(name, echo, plain)
                field.append(udp_contenders.start(name, setup, stack))
            for name in self.options.works:
                self._work(generator, WORKS[name], field)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(
        *(__doc__, "udp"),
        contenders=",".join(("ours", *udp_contenders.PEERS)),
        works=",".join(WORKS),
        seconds=2.0,
        patience=60,
    )
    return read(parser, arguments)


def work_rows(samples: Sequence[Sample], work: str) -> list[list[str]]:
    """Medians of one work, one row per contender."""
    of_work = report.Samples(samples, work)
    rows = [["contender", "per second", "proxy CPU, us each", "per CPU second"]]
    rows[0] += ["p50 us", "p99 us", "lost", "wrong"]
    for name in of_work.names:
        cost = of_work.values(name, "proxy_cpu").median
        runs = of_work.by_name[name].values()
        rows.append(
            [
                name,
                f"{of_work.values(name, 'rate').median:,.0f}",
                f"{cost * 1e6:.2f}",
                f"{1 / cost:,.0f}" if cost > 0 else "",
                f"{of_work.values(name, 'p50_us').median:,.0f}",
                f"{of_work.values(name, 'p99_us').median:,.0f}",
                str(sum(sample.notes["merged"] for sample in runs)),
                str(sum(sample.errors for sample in runs)),
            ]
        )
    return rows


def render(result: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    samples = [Sample(**sample) for sample in result["samples"]]
    environment = result["environment"]
    parts = ["# udp: " + environment["placement"], report.prose(environment)]
    parts.append(table(report.bar_rows(samples, BARS)))
    for work in dict.fromkeys(sample.work for sample in samples):
        flagged = len(report.Samples(samples, work).flagged)
        rounds = len({s.round for s in samples if s.work == work})
        parts.append(
            f"## {work}: {TITLES[work]}\n\n{rounds} rounds, {flagged} doubtful"
        )
        parts.append(table(work_rows(samples, work)))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run it."""
    options = parse()
    refuse_missing(udp_contenders.missing(name) for name in options.contenders)
    signal.signal(signal.SIGTERM, relay.terminate)
    build()
    netns.enter()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="udp-bench-") as folder:
        bench = UdpBench(options, Path(folder))
        bench.run_rounds()
    environment = relay.environment(options)
    del environment["congestion control"]
    result = {
        "environment": environment,
        "samples": [dataclasses.asdict(sample) for sample in bench.samples],
    }
    text = render(result)
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        write(result, text, "udp-box" if options.box else "udp")


if __name__ == "__main__":
    main()
