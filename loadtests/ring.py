"""Measure the ring against Maglev's table: build, lookup, moves, shares.

A *needless* move is a slot that changes its owner although its owner stays, when one
backend of equal weight leaves; the mean over up to ten leavers. Counts are exact and
the same on every machine; times are CPU time of this thread, minima over rounds.
Maglev's table is built in plain Python, so its build time says nothing and is not
shown; its lookups run in the same loop in C as ours, with the division that finds its
slot. *One more* lookup is one among many; *alone*, each waits for the one before it.

An *update* is a build with one backend added, removed or given another weight, as a
table that is applied does it: there is no cheaper way, so the time is that of a build.

    python -m loadtests.ring [--write]
"""

import argparse
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastpath.ring.ring import Ring, time_lookups
from loadtests.maglev import maglev_table

RESULT = Path(__file__).parent / "results" / "ring.md"
CASES = [
    (1021, 10),
    (4093, 40),
    (16_381, 10),
    (16_381, 100),
    (16_381, 1000),
    (65_537, 10),
    (65_537, 100),
    (65_537, 1000),
]
LEAVERS = 10
ROUNDS = 15
UPDATES = 300
LOOKUPS = 300_000
HEAVIEST = 10

Table = Callable[[Sequence[int], int], list[int]]
Items = list[tuple[int, int]]


class Moves(NamedTuple):
    """What happens to the slots of others, in percent of all slots."""

    needless_percent: float
    most_per_mean: float


class Case(NamedTuple):
    """One line of the result."""

    size: int
    backends: int
    build_ms: float
    weighted_build_ms: float
    update_ms: tuple[float, float]  # median, 99th percentile
    lookup_ns: tuple[float, float]  # one more, one alone
    maglev_lookup_ns: tuple[float, float]
    ours: Moves
    maglevs: Moves
    weight_error_percent: float


def ring_table(keys: Sequence[int], size: int) -> list[int]:
    """Return the ring's owners, in the form of `maglev_table`."""
    return list(Ring([(key, 1) for key in keys], size).owners())


def moves(table: Table, keys: list[int], size: int) -> Moves:
    """Let some leave, one at a time, and count."""
    before = table(keys, size)
    leavers = random.Random(2).sample(range(len(keys)), min(LEAVERS, len(keys)))
    moved = 0
    for leaver in leavers:
        left = [index for index in range(len(keys)) if index != leaver]
        after = table([keys[index] for index in left], size)
        pairs = zip(before, after, strict=True)
        moved += sum(old not in (left[new], leaver) for old, new in pairs)
    most = max(Counter(before).values())
    return Moves(100 * moved / size / len(leavers), most * len(keys) / size)


def build_ms(items: Items, size: int) -> float:
    """Return the shortest time of some builds."""
    times = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        Ring(items, size)
        times.append(time.thread_time() - began)
    return 1000 * min(times)


def update_ms(items: Items, size: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of many changes in a row."""
    rng = random.Random(3)
    now = list(items)
    times = []
    for number in range(UPDATES):
        index = rng.randrange(len(now))
        if number % 3 == 0:
            now.append((rng.getrandbits(64), rng.randint(1, HEAVIEST)))
        elif number % 3 == 1:
            del now[index]
        else:
            now[index] = (now[index][0], rng.randint(0, HEAVIEST))
        began = time.thread_time()
        Ring(now, size)
        times.append(1000 * (time.thread_time() - began))
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def lookup_ns(owners: bytes, *, modulo: bool) -> tuple[float, float]:
    """Return the shortest times of independent and of chained lookups."""
    each, alone = (
        min(
            time_lookups(owners, LOOKUPS, modulo=modulo, chained=chained)
            for _ in range(ROUNDS)
        )
        for chained in (False, True)
    )
    return each, alone


def weight_error_percent(items: Items, size: int) -> float:
    """Return how far the worst share of slots is from its weight."""
    slots = Counter(Ring(items, size).owners())
    total = sum(weight for _, weight in items)
    return 100 * max(
        abs(slots[index] * total / (size * weight) - 1)
        for index, (_, weight) in enumerate(items)
    )


def measured(size: int, count: int) -> Case:
    """Measure one size of table and of pool."""
    rng = random.Random(1)
    keys = [rng.getrandbits(64) for _ in range(count)]
    equal = [(key, 1) for key in keys]
    weighted = [(key, rng.randint(1, HEAVIEST)) for key in keys]
    owners = bytes(Ring(equal, size).owners())
    return Case(
        size,
        count,
        build_ms(equal, size),
        build_ms(weighted, size),
        update_ms(weighted, size),
        lookup_ns(owners, modulo=False),
        lookup_ns(owners, modulo=True),
        moves(ring_table, keys, size),
        moves(maglev_table, keys, size),
        weight_error_percent(weighted, size),
    )


def row(case: Case) -> str:
    """Format one line; `*` marks the size that a pool of this count gets."""
    by_default = Ring([(key, 1) for key in range(case.backends)]).size == case.size
    ours, maglevs = case.ours, case.maglevs
    cells = [
        f"{case.size:,}{' *' if by_default else ''}",
        f"{case.backends}",
        f"{case.build_ms:.2f}",
        f"{case.weighted_build_ms:.2f}",
        "{:.2f} / {:.2f}".format(*case.update_ms),
        "{:.1f} / {:.1f}".format(*case.lookup_ns),
        "{:.1f} / {:.1f}".format(*case.maglev_lookup_ns),
        f"{ours.needless_percent:.3f}",
        f"{maglevs.needless_percent:.3f}",
        f"{ours.needless_percent / maglevs.needless_percent:.2f}",
        f"{ours.most_per_mean:.3f}",
        f"{maglevs.most_per_mean:.3f}",
        f"{case.weight_error_percent:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def report() -> str:
    """Measure all cases and return the text of the result."""
    heads = [
        "slots (* default)",
        "backends",
        "build, ms",
        f"build, weights 1-{HEAVIEST}, ms",
        "update, median / 99 %, ms",
        "lookup, one more / alone, ns",
        "Maglev's",
        "needless moves, %",
        "Maglev's",
        "ratio",
        "largest / mean",
        "Maglev's",
        "worst weight error, %",
    ]
    where = f"Python {platform.python_version()}, {platform.machine()}"
    return "\n".join(
        [
            "# Ring against Maglev's table",
            "",
            f"`python -m loadtests.ring --write`, {where}.",
            "What is measured stands in loadtests/ring.py.",
            "",
            f"| {' | '.join(heads)} |",
            "|" + "---:|" * len(heads),
            *(row(measured(size, count)) for size, count in CASES),
            "",
            "The weight error exceeds 6 % only where a weight is worth less than 17",
            "slots, so that one slot is more than that.",
            "",
        ]
    )


def main() -> None:
    """Print the result; write it to the repository on demand."""
    parser = argparse.ArgumentParser(description="Measure the ring against Maglev's.")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    text = report()
    print(text)
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
