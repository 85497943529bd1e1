"""The report of a run of bastions: bars, tables, configurations."""

from collections.abc import Sequence
from typing import Any

from loadtests.bastion_contenders import KUBE, OURS
from loadtests.http_report import handshake_rows
from loadtests.measure import Sample
from loadtests.report import Bar, Samples, bar_rows, prose, table, work_rows
from tests.fakes.reviewer import REVIEWS

BARS = (
    Bar("get", "proxy_cpu", "CPU per request", 0.05, 0.05, against=(KUBE,)),
    Bar("get", "proxy_cpu", "CPU per request", 1.2, 1.2, against=("nginx",)),
    Bar("get", "proxy_cpu", "CPU per request", 1.0, 1.0, against=("nginx-auth",)),
    Bar("get", "proxy_cpu", "CPU per request", 1.0, 1.0, against=("envoy",)),
    Bar("half", "p99_us", "p99", 1.0, 1.0, against=("nginx-auth", "envoy")),
    Bar("download", "proxy_cpu", "CPU per byte", 1.0, 1.0, against=("nginx",)),
)
TITLES = {
    "get": "GET of 1 KB, 32 kept TLS connections, bearer token, one path",
    "paths": "the same, 1,000 paths in turn",
    "half": "GET in open loop, at half of what the slowest but kube-apiserver can",
    "download": "bodies of 1 GB, 4 kept TLS connections, every byte compared",
}
GROWTH = 1.25  # of memory, from a crowd to the same crowd again: bounded


def word(holds: bool) -> str:
    """In words."""
    return "reached" if holds else "FAIL"


def extra_bars(result: dict[str, Any]) -> list[list[str]]:
    """Bars of the works that are not measured in rounds, for ours."""
    rows = []
    for each in _of_ours(result.get("digests", ())):
        size = f"{each['bytes']:,} bytes"
        rows.append(
            ["download", "digest", "-", size, "the pod's", word(each["is_right"])]
        )
    for each in _of_ours(result.get("first", ())):
        exact = all(each[what] == [1, 1] for what in REVIEWS) and not each["wrong"]
        said = ", ".join("{}-{}".format(*each[what]) for what in REVIEWS)
        rows.append(["first", "reviews a new user", "-", said, "1, 1", word(exact)])
    crowds = _of_ours(result.get("users", ()))
    if len(crowds) == 3:
        grown = crowds[2]["memory"] / crowds[1]["memory"]
        said, bar = f"{grown:.2f}", f"<= {GROWTH}"
        rows.append(
            ["users", "memory, again / once", "-", said, bar, word(grown <= GROWTH)]
        )
        late = crowds[2]["p99_us"] / crowds[0]["p99_us"]
        rows.append(["users", "p99, 2,000 / 200 users", "-", f"{late:.2f}", "-", "-"])
    for each in _of_ours(result.get("dead", ())):
        failed = each["failed"]
        rows.append(
            ["dead", "failed requests", "-", str(failed), "0", word(failed == 0)]
        )
    return rows


def _of_ours(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in entries if each["contender"] == OURS]


def first_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per contender."""
    rows = [
        ["contender", "users", "at once", *REVIEWS, "ms median (max)", "CPU ms each"]
    ]
    for each in entries:
        reviews = ["{}-{}".format(*each[what]) for what in REVIEWS]
        late = "{:.1f} ({:.1f})".format(*each["late_ms"])
        row = [each["contender"], str(each["users"]), str(each["at once"]), *reviews]
        rows.append([*row, late, f"{each['cpu_ms']:.2f}"])
    return rows


def users_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per crowd."""
    head = ["contender", "users", "per second", "CPU us each", "p50 us", "p99 us"]
    rows = [[*head, "memory MB (at start)", "errors"]]
    for each in entries:
        row = [each["contender"], f"{each['users']:,}", f"{each['rate']:,.0f}"]
        row += [f"{each[name]:,.0f}" for name in ("cpu_us", "p50_us", "p99_us")]
        size = f"{each['memory'] / 1e6:.0f} ({each['begin'] / 1e6:.0f})"
        rows.append([*row, size, str(each["errors"])])
    return rows


def dead_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per contender."""
    rows = [["contender", "requests", "failed"]]
    return rows + [
        [e["contender"], f"{e['done']:,}", str(e["failed"])] for e in entries
    ]


EXTRA = {
    "first": (
        "users whom nobody has met, over several connections at once",
        first_rows,
    ),
    "users": ("crowds at a fixed rate, 10 paths each, one connection each", users_rows),
    "dead": ("one of three pods is killed under load of 32 connections", dead_rows),
}


def render(result: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    samples = [Sample(**sample) for sample in result["samples"]]
    environment = result["environment"]
    parts = ["# bastion: " + environment["placement"], prose(environment)]
    bars = bar_rows(samples, BARS) + extra_bars(result)
    parts.append(table(bars) if len(bars) > 1 else "No bars: ours was not in this run.")
    for work in dict.fromkeys(sample.work for sample in samples):
        of_work = Samples(samples, work)
        rounds = len({s.round for s in samples if s.work == work})
        note = f"{rounds} rounds, {len(of_work.flagged)} doubtful"
        parts.append(f"## {work}: {TITLES[work]}\n\n{note}")
        parts.append(table(work_rows(samples, work)))
    for work, (title, rows) in EXTRA.items():
        if result.get(work):
            parts += [f"## {work}: {title}", table(rows(result[work]))]
    parts += ["## connections to the pods", table(handshake_rows(samples))]
    for name, text in result["configurations"].items():
        parts.append(f"## configuration: {name}\n\n```\n{text}\n```")
    return "\n\n".join(parts) + "\n"
