"""Measure what changes of the table cost: small ones of a large table, and all of it.

10,000 vips with pools of their own, 100,000 backends. *One change* is one backend
added, removed or re-weighted: from the call of `Engine.update` until all workers use
the table. *CPU* is that of the whole process while 1,000 such changes a second are
made, workers included. *From nothing* has the making of the Python values in it.
*Find* is what a transparent listener pays to find the vip of a client, by itself;
what a whole connection pays is measured with real clients in a network of its own.

    python -m loadtests.control [--quick] [--write]
"""

import argparse
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastpath import Backend, Delta, Engine, Pool, Table, Vip
from fastpath.table.delta import State
from fastpath.table.draft import Draft
from fastpath.table.registry import Registry
from fastpath.table.table import TableBlock

VIPS, EACH, FINDS = 10_000, 10, 50_000
RATE, SECONDS, CHANGES = 1000, 5.0, 5000
BARS = {
    "one change, p50 ms": 0.5,
    "one change, p99 ms": 5.0,
    "CPU of 1,000 changes/s, % of a core": 15.0,
    "from nothing, s": 2.0,
    "resident, MiB": 120.0,
    "find, ns": 50.0,
}


def backends(number: int, count: int = EACH) -> tuple[Backend, ...]:
    """Return `count` of them, as only this pool has them."""
    return tuple(
        Backend(f"10.{number >> 8}.{number & 255}.{k}", 8080) for k in range(count)
    )


def vip(number: int) -> Vip:
    """A vip that is reached by a transparent listener."""
    host = f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return Vip(host, 80, "tcp", f"p{number % VIPS}", bind=False)


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


def changes(seed: int) -> Iterator[Delta]:
    """One backend re-weighted, removed, added, in turn, each in another pool."""
    chosen = random.Random(seed)
    while True:
        number = chosen.randrange(VIPS)
        all_ = backends(number)
        first = all_[0]
        heavier = Backend(first.host, first.port, weight=chosen.randint(2, 9))
        for pool in ((heavier, *all_[1:]), all_[1:], all_):
            yield Delta(pools={f"p{number}": Pool(pool)})


def from_nothing(engine: Engine) -> tuple[float, float]:
    """Make the values and apply them: seconds, and MiB that stay."""
    gc.collect()
    before = resident_mib()
    began = time.perf_counter()
    pools = {f"p{n}": Pool(backends(n)) for n in range(VIPS)}
    engine.apply(Table([vip(n) for n in range(VIPS)], pools=pools))
    took_s = time.perf_counter() - began
    del pools
    gc.collect()
    return took_s, resident_mib() - before


def one_by_one(engine: Engine, count: int) -> list[float]:
    """Milliseconds from each call until all workers use the table."""
    took_ms = []
    for delta, _ in zip(changes(1), range(count), strict=False):
        began = time.perf_counter()
        engine.update(delta)
        while not engine.settle(0):
            pass
        took_ms.append((time.perf_counter() - began) * 1000)
        time.sleep(0.0005)  # workers sleep again
    return took_ms


def at_rate(work: Callable[[int], object], seconds: float) -> float:
    """Share of a core while `work` is done RATE times a second, in per cent."""
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(int(seconds * RATE)):
        work(number)
        early = began + (number + 1) / RATE - time.perf_counter()
        if early > 0:
            time.sleep(early)
    return (time.process_time() - cpu) / (time.perf_counter() - began) * 100


def cpu_of_changes(engine: Engine, seconds: float) -> float:
    """Share of a core that changes at RATE cost, less what this loop itself costs."""
    deltas = [d for d, _ in zip(changes(2), range(RATE), strict=False)]
    changing = at_rate(lambda n: engine.update(deltas[n % RATE]), seconds)
    return changing - at_rate(lambda n: None, seconds)


def find_ns() -> float:
    """Nanoseconds of one look-up among FINDS vips, each in its turn by chance."""
    state = State(Registry(), 1)
    pool = {f"p{n}": Pool(()) for n in range(VIPS)}
    vips = [vip(n) for n in range(FINDS)]
    draft = Draft(state, Delta(vips=vips, pools=pool), {})
    blocks = {b.slot: b for b in draft.vips.values() if b is not None}
    table = TableBlock(TableBlock(), blocks, {}, {}, ([], list(blocks.values())))
    asked = [(one.host, one.port) for one in vips]
    random.Random(3).shuffle(asked)
    took_ns, found = table.time_finds(asked, 20)
    assert found == 20 * FINDS
    return took_ns


def measure(quick: bool) -> dict[str, float]:
    """Run all of it once."""
    with Engine(workers=2) as engine:
        nothing_s, mib = from_nothing(engine)
        took_ms = sorted(one_by_one(engine, CHANGES // 10 if quick else CHANGES))
        cpu = cpu_of_changes(engine, SECONDS / 5 if quick else SECONDS)
    return {
        "one change, p50 ms": statistics.median(took_ms),
        "one change, p99 ms": took_ms[len(took_ms) * 99 // 100],
        "CPU of 1,000 changes/s, % of a core": cpu,
        "from nothing, s": nothing_s,
        "resident, MiB": mib,
        "find, ns": find_ns(),
    }


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer changes")
    parser.add_argument("--write", action="store_true", help="to loadtests/results")
    options = parser.parse_args()
    found = measure(options.quick)
    python = platform.python_version()
    where = f"{platform.machine()}, Linux {platform.release()}, Python {python}"
    lines = [f"{VIPS} vips, {VIPS * EACH} backends, 2 workers; {where}", ""]
    lines += ["| what | measured | bar |", "| --- | --- | --- |"]
    lines += [f"| {what} | {found[what]:.3g} | {bar:g} |" for what, bar in BARS.items()]
    print("\n".join(lines))
    if options.write:
        results = Path(__file__).parent / "results"
        (results / "control.md").write_text("\n".join(lines) + "\n")
        (results / "control.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
