"""A Service as a pod sees it: ours, kube-proxy's nftables rules, and no Service at all.

    python -m loadtests.node [--quick] [--box] [--write] [--works rr,crr]

A pod on one node, the server in a pod on another, a LAN between them: namespaces and
veth pairs, cubic. Each way has a node of its own (see `node_ways`), so that rules and
conntrack of one are not paid for by another. Works: `rr` 100-byte requests over 64 kept
connections; `crr` connect, one request, close; `bulk1`, `bulk8` streams; `udp` 64-byte
questions of 1,000 clients; `train` 1,200-byte datagrams, 40 in one piece; `dead` one of
three endpoints refuses; `restart` of the agent under load. Ratios are taken within a
round, between neighbours in time.

Placement as in `loadtests.relay`; the kernel's share of a way that has no process runs
in the clients' and the server's time, so machine CPU is what compares. `pyproxy direct`
has no datagrams: those of such a Service are captured by tproxy. Needs root.
"""

import argparse
import dataclasses
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests import node_days, node_ways, relay, report, udp
from loadtests.bench import Bench, say
from loadtests.command import command_line, read, write
from loadtests.measure import WORKS, Sample, Work, build
from loadtests.node_ways import BULK, ECHO, Behind, InLab, UdpInLab, Way
from loadtests.report import Bar, table
from tests.support import hooked
from tests.support import netns as rights
from tests.support.lab import Lab

if TYPE_CHECKING:
    from loadtests.contenders import Contender

WAYS = ("tproxy", "direct", "nftables")
TPROXY, DIRECT, NFTABLES = "pyproxy tproxy", "pyproxy direct", "nftables"
TCP: dict[str, Work] = {
    "rr": WORKS["rr"],
    "crr": dataclasses.replace(WORKS["crr"], spread=1),
    "bulk1": WORKS["bulk1"],
    "bulk8": WORKS["bulk8"],
}
UDP = {name: udp.WORKS[name] for name in ("udp", "train")}
DAYS = ("dead", "restart")
TITLES = {**report.TITLES, **udp.TITLES}


def _bars(of: str, against: str, rows: Sequence[tuple[str, str, float]]) -> list[Bar]:
    names = {"rate": "rate", "p50_us": "p50"}
    return [
        Bar(
            work,
            metric,
            f"{of}: {names[metric]}",
            limit,
            limit,
            larger_wins=metric == "rate",
            against=(against,),
            of=of,
        )
        for work, metric, limit in rows
    ]


BARS = [
    *_bars(TPROXY, NFTABLES, [("rr", "rate", 0.9)]),
    *_bars(DIRECT, "direct", [("rr", "rate", 0.97), ("rr", "p50_us", 1.03)]),
    *_bars(DIRECT, "direct", [("crr", "rate", 0.95)]),
    *_bars(DIRECT, NFTABLES, [("rr", "rate", 1.0), ("crr", "rate", 1.0)]),
]


class NodeBench(Bench):
    """One run."""

    days: dict[str, Any]

    def run_rounds(self) -> None:
        """All works."""
        options, self.days = self.options, {}
        with ExitStack() as stack:
            lab = stack.enter_context(Lab(nodes=2 + len(options.contenders), pods=3))
            node_ways.prepare(lab, options.congestion)
            self.congestion = congestion_at(lab)
            pods = lab.nodes[-1].pods
            place = (stack, self.generator_cores, self.folder, pods[0])
            generator, datagrams = InLab(*place), UdpInLab(*place)
            # A second server, and a third endpoint at which nobody is.
            also = (stack, self.generator_cores, self.folder, pods[1])
            InLab(*also)
            behind = Behind(
                {
                    "web": [pods[0].hosts["ipv4"]],
                    "part": [pod.hosts["ipv4"] for pod in pods],
                },
                {
                    "echo": ECHO,
                    "bulk": BULK,
                    "udp": datagrams.echo_port,
                    "train": datagrams.bulk_port,
                },
            )
            bare = Way("direct", generator.server, [ECHO, BULK])
            bare.client = lab.nodes[0].pods[0]
            generator.bare = datagrams.bare = bare
            ways = list(self._ways(lab, behind, generator, stack))
            carrying = [way for way in ways if way.name != DIRECT]
            for way in ways:
                wanted = way in carrying and bool(UDP.keys() & set(options.works))
                node_ways.prove(way, datagrams=wanted)
            self._rounds(generator, TCP, ways)
            self._rounds(datagrams, UDP, carrying)
            if "dead" in options.works:
                seconds = max(options.seconds, 2.0)
                self.days["dead"] = node_days.run_dead(generator, ways, seconds)
            if "restart" in options.works:
                found = node_days.run_restart(generator, ways, stack)
                self.days["restart"] = found

    def _ways(
        self, lab: Lab, behind: Behind, generator: InLab, stack: ExitStack
    ) -> Iterator[Way]:
        for node, name in zip(lab.nodes[1:], self.options.contenders, strict=False):
            if name == "tproxy":
                agent = node_ways.Tproxy(
                    *(node, behind, self.folder / "agent"),
                    *(self.workers, self.proxy_cores),
                )
                yield agent.way(stack, generator.server)
            elif name == "direct":
                names = self.folder / "bpf"
                yield node_ways.direct(node, behind, names, stack, generator.server)
            else:
                yield node_ways.nftables(node, behind, generator.server)

    def _rounds(
        self, generator: InLab, works: dict[str, Work], ways: Sequence[Way]
    ) -> None:
        field: list[Contender | None] = [None, *ways]
        for name, work in works.items():
            if name in self.options.works:
                self._work(generator, work, field)


def congestion_at(lab: Lab) -> str:
    """Return what connections of pods and nodes use."""
    server = lab.nodes[-1].pods[0]
    pairs = [(node.pods[0], server) for node in lab.nodes[:-1]]
    pairs += [(node, server) for node in lab.nodes[:-1]]
    pairs += [(node.pods[0], node) for node in lab.nodes[:-1]]
    return "+".join(sorted({node_ways.congestion_between(*pair) for pair in pairs}))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(
        *(__doc__, "node"),
        contenders=",".join(WAYS),
        works=",".join([*TCP, *UDP, *DAYS]),
        seconds=2.0,
        patience=60,
    )
    parser.add_argument("--congestion", default="cubic")
    options = read(parser, arguments)
    if unknown := set(options.contenders) - set(WAYS):
        parser.error(f"no way {min(unknown)!r}; there is: {', '.join(WAYS)}")
    return options


def obstacle(options: argparse.Namespace) -> str:
    """Return why this machine cannot do it, or nothing."""
    if why := rights.obstacle() or rights.obstacle_to_loss():
        return why
    if "direct" in options.contenders and (why := hooked.obstacle()):
        return f"{why}: leave out direct with --contenders"
    return ""


def render(result: dict[str, Any]) -> str:
    """The whole report as Markdown; who dials no Service is called `none`."""
    samples = [Sample(**sample) for sample in result["samples"]]
    environment = result["environment"]
    parts = ["# node: " + environment["placement"], report.prose(environment)]
    parts.append(table(named(report.bar_rows(samples, BARS) + day_rows(result))))
    for work in dict.fromkeys(sample.work for sample in samples):
        flagged = len(report.Samples(samples, work).flagged)
        rounds = len({s.round for s in samples if s.work == work})
        title = TITLES.get(work, work)
        parts.append(f"## {work}: {title}\n\n{rounds} rounds, {flagged} doubtful")
        rows = report.work_rows(samples, work)
        if work in UDP:
            rows = udp_rows(samples, work)
        parts.append(table(named(rows)))
    for entry in result.get("restart", []):
        took = f"{entry['took_s']:.1f} s until the new one served"
        asked = f"{entry['requests']:,} requests over kept connections"
        parts.append(
            f"restart, {entry['contender']}: {took}; {entry['connections']:,}"
            f" connections, {entry['refused']} refused; {asked}, {entry['lost']} lost"
        )
    return "\n\n".join(parts) + "\n"


def udp_rows(samples: Sequence[Sample], work: str) -> list[list[str]]:
    """Medians of datagrams, with the ratio to no Service and the machine's CPU."""
    of_work = report.Samples(samples, work)
    rows = udp.work_rows(samples, work)
    for row in rows[1:]:
        name = row[0]
        cpu = of_work.values(name, "machine_cpu").median
        row[2:4] = [f"{cpu * 1e6:.2f}", str(of_work.ratio(name, "direct", "rate"))]
    rows[0][2:4] = ["machine CPU, us each", "to direct (min-max)"]
    return rows


def day_rows(result: dict[str, Any]) -> list[list[str]]:
    """Bars of bad days."""
    rows = []
    for entry in result.get("dead", []):
        share = entry["failed"] / max(1, entry["failed"] + entry["done"])
        word = ""
        if entry["contender"] == TPROXY:
            word = "FAIL" if entry["failed"] else "pass"
        text = f"{entry['failed']} ({share:.1%})"
        bar = "0" if word else "-"
        rows.append(
            ["dead", f"{entry['contender']}: failed connections", "-", text, bar, word]
        )
    for entry in result.get("restart", []):
        for what in ("refused", "lost"):
            # After the load nobody could have noticed it.
            held = not entry[what] and entry["within"]
            word = "pass" if held else "FAIL"
            label = f"{entry['contender']}: {what}"
            rows.append(["restart", label, "-", str(entry[what]), "0", word])
    return rows


def named(rows: Sequence[list[str]]) -> list[list[str]]:
    """Rows in which `direct`, as reports name what nobody forwards, is `none`."""
    swap = {"direct": "none", "to direct (min-max)": "to none (min-max)"}
    return [[swap.get(cell, cell) for cell in row] for row in rows]


def environment(options: argparse.Namespace, congestion: str) -> dict[str, Any]:
    """What one has to know to judge the figures."""
    placement = "box: 2 workers, not pinned"
    if not options.box:
        placement = "percore: agent on core 0, client and server on core 1"
    return {
        "placement": placement,
        "rounds": f"{options.rounds} of {options.seconds} s per work and way",
        "congestion control": congestion,
        "machine": relay.machine(),
    }


def main() -> None:
    """Run it."""
    options = parse()
    if why := obstacle(options):
        raise SystemExit(why)
    signal.signal(signal.SIGTERM, relay.terminate)
    build()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="node-bench-") as folder:
        bench = NodeBench(options, Path(folder))
        bench.run_rounds()
    result = {
        "environment": environment(options, bench.congestion),
        "samples": [dataclasses.asdict(sample) for sample in bench.samples],
        **bench.days,
    }
    text = render(result)
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        write(result, text, "node-box" if options.box else "node")


if __name__ == "__main__":
    main()
