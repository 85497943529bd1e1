"""From samples to ratios, bars, a table and a plot.

Ratios are taken within a round, between neighbours in time, and the median over the
rounds is what counts. The best peer is chosen per metric, by its median.
`python -m loadtests.report FILE.json` prints the table of an earlier run again.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.contenders import PEERS
from loadtests.measure import Sample

DEVIATION = 0.10  # a round whose direct rate is further off is not counted
FOREIGN = 0.2  # of a core: nor one in which other programs took more than that


@dataclass(frozen=True)
class Bar:
    """What the project asks of itself: ours against the best peer."""

    work: str
    metric: str
    label: str
    limit: float
    reach: float
    larger_wins: bool = False
    against: tuple[str, ...] = PEERS
    of: str = "ours"  # the contender that is asked


BARS = (
    Bar("rr", "proxy_cpu", "CPU per request", 0.85, 0.75),
    Bar("rr", "rate", "requests/s", 1.10, 1.20, larger_wins=True),
    Bar("bulk1", "proxy_cpu", "CPU per byte", 0.75, 0.60),
    Bar("bulk1", "rate", "bytes/s", 1.0, 1.0, larger_wins=True),
    Bar("bulk8", "proxy_cpu", "CPU per byte", 0.75, 0.60),
    Bar("bulk8", "rate", "bytes/s", 1.0, 1.0, larger_wins=True),
    Bar("crr", "rate", "connections/s", 1.0, 1.1, larger_wins=True),
    Bar("crr", "proxy_cpu", "CPU per connection", 0.95, 0.85),
    Bar("half", "p99_us", "p99", 1.05, 0.90),
)

# Works are named alike where they are alike.
STREAMS = ("bulk", "up", "list", "exec", "download")
TIMED = ("rr", "half", "get", "get128", "get512", "paths", "odd", "fresh", "watch")

TITLES = {
    "rr": "100-byte requests, 64 kept connections",
    "half": "the same at a fixed rate, half of what the slowest can",
    "bulk1": "one stream",
    "bulk8": "eight streams",
    "up1": "one stream, client to server",
    "up8": "eight streams, client to server",
    "crr": "connect, one request, close",
}


@dataclass(frozen=True)
class Spread:
    """Median and extremes over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summary of at least one value."""
        known = list(values)
        return cls(median(known), min(known), max(known))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Samples:
    """The samples of one work, by contender and round, bad rounds left out."""

    def __init__(self, samples: Iterable[Sample], work: str) -> None:
        mine = [sample for sample in samples if sample.work == work]
        self.flagged = _doubtful_rounds(mine)
        rounds = {sample.round for sample in mine}
        # Better a doubtful figure with a mark than none.
        self.noisy = len(rounds - self.flagged) <= len(rounds) / 2
        dropped = set() if self.noisy else self.flagged
        self.by_name: dict[str, dict[int, Sample]] = {}
        for sample in mine:
            if sample.round not in dropped:
                self.by_name.setdefault(sample.contender, {})[sample.round] = sample

    @property
    def names(self) -> list[str]:
        """Contenders in the order in which they ran first."""
        return list(self.by_name)

    def peers(self, among: Sequence[str] = PEERS) -> list[str]:
        """Contenders that ours is compared with."""
        return [name for name in self.by_name if name in among]

    def values(self, name: str, metric: str) -> Spread:
        """Spread of one metric of one contender."""
        return Spread.of(s.metric(metric) for s in self.by_name[name].values())

    def ratio(self, name: str, other: str, metric: str) -> Spread:
        """Spread of name/other, taken round by round."""
        mine, theirs = self.by_name[name], self.by_name[other]
        common = mine.keys() & theirs.keys()
        pairs = [(mine[r].metric(metric), theirs[r].metric(metric)) for r in common]
        # On an overloaded machine there are windows in which one had no time at all.
        return Spread.of([a / b for a, b in pairs if b] or [float("nan")])

    def best_peer(
        self, metric: str, larger_wins: bool, among: Sequence[str] = PEERS
    ) -> str:
        """The peer with the best median."""
        choose: Callable[..., str] = max if larger_wins else min
        return choose(
            self.peers(among), key=lambda name: self.values(name, metric).median
        )

    def generator_bound(self, name: str) -> bool:
        """Whether client and server had no time left: they set the rate, then."""
        runs = self.by_name[name].values()
        return median((s.client_s + s.server_s) / s.wall_s for s in runs) > 0.95


def _doubtful_rounds(samples: Sequence[Sample]) -> set[int]:
    """Rounds with a direct rate off the median, or disturbed by other programs."""
    doubtful = {sample.round for sample in samples if sample.foreign > FOREIGN}
    direct = {s.round: s.rate for s in samples if s.contender == "direct"}
    if direct:
        middle = median(direct.values())
        doubtful |= {r for r, x in direct.items() if abs(x / middle - 1) > DEVIATION}
    return doubtful


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown that also lines up in a terminal; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
        for r in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def verdict(value: float, bar: Bar) -> str:
    """In words."""
    sign = -1 if bar.larger_wins else 1
    if sign * value <= sign * bar.reach:
        return "reached"
    return "pass" if sign * value <= sign * bar.limit else "FAIL"


def bar_rows(samples: Sequence[Sample], bars: Sequence[Bar] = BARS) -> list[list[str]]:
    """One row per bar whose work was run with both in it.

    "generator-bound": client and server had no time left and set the rate. "noisy":
    other programs disturbed most rounds, so that the ratio says little.
    """
    rows = [["work", "metric", "best peer", "ours / best (min-max)", "bar", "verdict"]]
    for bar in bars:
        of_work = Samples(samples, bar.work)
        if bar.of not in of_work.by_name or not of_work.peers(bar.against):
            continue
        best = of_work.best_peer(bar.metric, bar.larger_wins, bar.against)
        ratio = of_work.ratio(bar.of, best, bar.metric)
        limit = f"{'>=' if bar.larger_wins else '<='} {bar.limit:.2f}"
        word = verdict(ratio.median, bar)
        if bar.metric == "rate" and of_work.generator_bound(bar.of):
            word += " (generator-bound)"
        word += " (noisy)" if of_work.noisy else ""
        rows.append([bar.work, bar.label, best, str(ratio), limit, word])
    return rows


def work_rows(samples: Sequence[Sample], work: str) -> list[list[str]]:
    """Medians of one work, one row per contender."""
    of_work = Samples(samples, work)
    bulk = work.startswith(STREAMS)
    latency = work in TIMED
    head = ["contender", "GB/s" if bulk else "per second", "to direct (min-max)"]
    head += ["proxy CPU, s/GB" if bulk else "proxy CPU, us each", "machine CPU"]
    head += ["p50 us", "p99 us", "p99.9 us"] if latency else []
    rows = [[*head, "errors"]]
    rate_unit, cpu_unit = (1e9, 1e-9) if bulk else (1, 1e-6)
    for name in of_work.names:
        rate = of_work.values(name, "rate").median / rate_unit
        row = [name, f"{rate:.2f}" if bulk else f"{rate:,.0f}"]
        direct = "direct" in of_work.by_name
        row.append(str(of_work.ratio(name, "direct", "rate")) if direct else "")
        for metric in ("proxy_cpu", "machine_cpu"):
            cost = of_work.values(name, metric).median / cpu_unit
            row.append(f"{cost:.3f}" if bulk else f"{cost:.2f}")
        if latency:
            row += [
                f"{of_work.values(name, m).median:,.0f}"
                for m in ("p50_us", "p99_us", "p999_us")
            ]
        rows.append([*row, str(sum(s.errors for s in of_work.by_name[name].values()))])
    return rows


def extra_rows(result: dict[str, Any]) -> list[list[str]]:
    """Bars of the works that are not measured in rounds."""
    rows = []
    for idle in result.get("idle", []):
        if idle["contender"] == "ours":
            value = idle["bytes_per_relay"]
            word = "pass" if value <= 256 else "FAIL"
            fit = f"{value:.0f} B (R2 {idle['r2']:.4f})"
            rows.append(["idle", "user memory per relay", "-", fit, "<= 256 B", word])
    again = result.get("reconfigure")
    if again:
        lost, change = again["lost"], Spread(*again["p99_ratio"])
        word = "pass" if lost == 0 else "FAIL"
        rows.append(["apply", "lost connections", "-", str(lost), "0", word])
        word = "pass" if change.median <= 1.10 else "FAIL"
        rows.append(["apply", "p99 with / without", "-", str(change), "<= 1.10", word])
    for dead in result.get("dead", []):
        if dead["contender"] == "ours":
            word = "pass" if dead["failed"] == 0 else "FAIL"
            rows.append(
                ["dead", "failed connections", "-", str(dead["failed"]), "0", word]
            )
    return rows


def render(result: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    samples = [Sample(**sample) for sample in result["samples"]]
    environment = result["environment"]
    parts = ["# relay: " + environment["placement"], prose(environment)]
    parts.append(table(bar_rows(samples) + extra_rows(result)))
    for work in dict.fromkeys(sample.work for sample in samples):
        of_work = Samples(samples, work)
        rounds = len({s.round for s in samples if s.work == work})
        note = f"{rounds} rounds, {len(of_work.flagged)} doubtful"
        parts.append(f"## {work}: {TITLES.get(work, work)}\n\n{note}")
        parts.append(table(work_rows(samples, work)))
    if result.get("idle"):
        parts.append("## idle: user memory of a relay that waits\n")
        parts.append(table(_idle_rows(result["idle"])))
    if result.get("reconfigure"):
        parts.append(f"## apply: {result['reconfigure']['words']}")
    if result.get("dead"):
        parts.append("## dead: one of three backends refuses, no active probes\n")
        parts.append(table(_dead_rows(result["dead"])))
    return "\n\n".join(parts) + "\n"


def prose(environment: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in environment.items())


def _idle_rows(idle: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["contender", "bytes per relay", "R2", "relays"]]
    for entry in idle:
        size, fit = f"{entry['bytes_per_relay']:,.0f}", f"{entry['r2']:.4f}"
        rows.append([entry["contender"], size, fit, str(entry["counts"][-1])])
    return rows


def _dead_rows(dead: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["contender", "connections", "failed", "share"]]
    for entry in dead:
        total = entry["done"] + entry["failed"]
        share = f"{entry['failed'] / max(1, total):.1%}"
        rows.append([entry["contender"], str(total), str(entry["failed"]), share])
    return rows


if __name__ == "__main__":
    sys.stdout.write(render(json.loads(Path(sys.argv[1]).read_text())))
