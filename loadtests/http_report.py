"""The report of a run over HTTP: bars, tables, configurations."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.http_contenders import PEERS
from loadtests.measure import Sample
from loadtests.report import Bar, Samples, Spread, bar_rows, prose, table, work_rows

LEAN = ("nginx", "haproxy")
GO = ("kubectl",)
LATE_US = 2000
WATCH_BYTES = 4096  # of user memory, beyond TLS's own

BARS = (
    Bar("get", "proxy_cpu", "CPU per request", 0.85, 0.70, against=LEAN),
    Bar("get", "proxy_cpu", "CPU per request", 0.16, 0.12, against=GO),
    Bar("get", "rate", "requests/s", 1.20, 1.40, larger_wins=True, against=PEERS),
    Bar("get128", "proxy_cpu", "CPU per request", 0.85, 0.70, against=LEAN),
    Bar("get512", "proxy_cpu", "CPU per request", 0.85, 0.70, against=LEAN),
    Bar("half", "p99_us", "p99", 1.0, 1.0, against=PEERS),
    Bar("list", "proxy_cpu", "CPU per byte", 1.0, 1.0, against=PEERS),
    Bar("list-gzip", "proxy_cpu", "CPU per byte", 1.0, 1.0, against=PEERS),
    Bar("fresh", "rate", "connections/s", 1.0, 1.0, larger_wins=True, against=PEERS),
    # Twice the bytes per CPU second.
    Bar("exec", "proxy_cpu", "CPU per byte", 0.5, 0.5, against=GO),
)

TITLES = {
    "get128": "the same over 128 connections",
    "get512": "the same over 512 connections",
    "paths": "GET of 1 KB, 32 kept connections, each path met for the first time",
    "odd": "the same, with an escape in each path",
    "get": "GET of 1 KB, 32 kept connections, 1,000 paths in turn",
    "half": "the same in open loop, at half of what the slowest but kubectl can",
    "list": "lists of 10 MB, 4 kept connections",
    "list-gzip": "the same, compressed by the upstream; bytes are those on the wire",
    "fresh": "connect, one request, close; the upstream closes after its answer, too",
    "watch": "1,000 watches, 100 events/s to each of 100 of them",
    "exec": "4 upgraded connections, both ways at once; bytes of both",
}


def added_us(of_work: Samples, name: str, metric: str) -> Spread:
    """Latency beyond that of the direct way, round by round."""
    mine, direct = of_work.by_name[name], of_work.by_name["direct"]
    common = mine.keys() & direct.keys()
    return Spread.of(mine[r].metric(metric) - direct[r].metric(metric) for r in common)


def noted(of_work: Samples, name: str, note: str) -> int:
    """Sum of one note over the rounds."""
    return sum(s.notes.get(note, 0) for s in of_work.by_name[name].values())


def watch_bars(samples: Sequence[Sample]) -> list[list[str]]:
    """How late events are, and whether all came by themselves."""
    of_work = Samples(samples, "watch")
    if not {"ours", "direct"} <= of_work.by_name.keys():
        return []
    late = added_us(of_work, "ours", "p99_us")
    mark = " (noisy)" if of_work.noisy else ""
    word = "reached" if late.median <= LATE_US else "FAIL"
    lost = sum(s.errors for s in of_work.by_name["ours"].values())
    merged = noted(of_work, "ours", "merged")
    # What the client itself was late for shows on the direct way, too.
    allowed = noted(of_work, "direct", "merged")
    whole = "reached" if lost == 0 and merged <= allowed else "FAIL"
    events = f"{lost} and {merged} (direct {allowed})"
    added = f"{late.median:,.0f} ({late.low:,.0f}-{late.high:,.0f}) us"
    return [
        ["watch", "p99 beyond direct", "-", added, f"<= {LATE_US} us", word + mark],
        ["watch", "events lost and merged", "-", events, "0 and 0", whole + mark],
    ]


def memory_bars(memory: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Memory of an idle watch beyond TLS's own."""
    sizes = {entry["contender"]: entry["bytes_per_watch"] for entry in memory}
    if "ours" not in sizes:
        return []
    beyond = sizes["ours"] - sizes["TLS alone"]
    word = "reached" if beyond <= WATCH_BYTES else "FAIL"
    limit = f"<= {WATCH_BYTES:,} B"
    return [["memory", "beyond TLS's own", "-", f"{beyond:,.0f} B", limit, word]]


def watch_rows(samples: Sequence[Sample]) -> list[list[str]]:
    """One row per contender."""
    of_work = Samples(samples, "watch")
    rows = [["contender", "p50 beyond direct, us", "p99 beyond direct, us", "merged"]]
    for name in of_work.names if "direct" in of_work.by_name else []:
        late = [added_us(of_work, name, metric) for metric in ("p50_us", "p99_us")]
        words = [f"{s.median:,.0f} ({s.low:,.0f}-{s.high:,.0f})" for s in late]
        rows.append([name, *words, str(noted(of_work, name, "merged"))])
    return rows


def handshake_rows(samples: Sequence[Sample]) -> list[list[str]]:
    """Connections that the upstream saw, warm-up included."""
    rows = [["work", "contender", "requests", "connections", "of these resumed"]]
    for work in dict.fromkeys(sample.work for sample in samples):
        of_work = Samples(samples, work)
        for name in of_work.names:
            requests, accepted, resumed = (
                noted(of_work, name, note)
                for note in ("requests", "accepted", "resumed")
            )
            share = f"{resumed / accepted:.0%}" if accepted else "-"
            rows.append([work, name, f"{requests:,}", f"{accepted:,}", share])
    return rows


def memory_rows(memory: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per contender."""
    rows = [["contender", "bytes per idle watch", "R2"]]
    for entry in memory:
        size, fit = f"{entry['bytes_per_watch']:,.0f}", f"{entry['r2']:.4f}"
        rows.append([entry["contender"], size, fit])
    return rows


def render(result: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    samples = [Sample(**sample) for sample in result["samples"]]
    memory = result.get("memory", [])
    environment = result["environment"]
    parts = ["# http: " + environment["placement"], prose(environment)]
    bars = bar_rows(samples, BARS) + watch_bars(samples) + memory_bars(memory)
    parts.append(table(bars) if len(bars) > 1 else "No bars: ours was not in this run.")
    for work in dict.fromkeys(sample.work for sample in samples):
        of_work = Samples(samples, work)
        rounds = len({s.round for s in samples if s.work == work})
        note = f"{rounds} rounds, {len(of_work.flagged)} doubtful"
        parts.append(f"## {work}: {TITLES[work]}\n\n{note}")
        parts.append(table(work_rows(samples, work)))
        if work == "watch":
            parts.append(table(watch_rows(samples)))
    if memory:
        parts.append("## memory: user memory of a watch that waits")
        parts.append(table(memory_rows(memory)))
    parts.append("## connections to the upstream")
    parts.append(table(handshake_rows(samples)))
    for name, text in result["configurations"].items():
        parts.append(f"## configuration: {name}\n\n```\n{text}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render(json.loads(Path(sys.argv[1]).read_text())))
