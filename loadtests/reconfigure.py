"""Bad days: tables that change under load, and a backend that is gone.

`apply`: 1,000 tables, each unlike the one before (backends leave and come back, weights
change, vips come and go), while requests run over kept connections at a fixed rate and
new connections are opened all the time. No connection may be lost, and the requests'
p99 is compared with that of windows in between in which nothing is applied.

`dead`: one of three backends refuses connections, without probes. Counted are
clients that got no answer.
"""

import dataclasses
from contextlib import ExitStack
from statistics import median
from typing import Any

from loadtests import contenders
from loadtests.bench import Bench, say
from loadtests.contenders import Contender
from loadtests.measure import WORKS, Generator, Work
from loadtests.process import free_port

WARM_S = 0.4
PAIRS = 5  # windows with applies, each beside one without
APPLIES = 200  # per window
REQUESTS_PER_S = 5000.0
CONNECTING = 2  # clients that open, ask once and close, one after the other


def run_apply(bench: Bench) -> dict[str, Any]:
    """Apply tables to ours under load."""
    pairs = 1 if bench.options.quick else PAIRS
    folder = bench.folder / "apply"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        generator = Generator(stack, bench.generator_cores, folder)
        port = generator.echo_port
        setup = bench.setup("ours", [("127.0.0.2", port), ("127.0.0.3", port)])
        ours = contenders.start("ours", setup, stack)
        assert ours.process.line() == "ready"
        windows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for number in range(pairs):
            for applying in (True, False) if number % 2 else (False, True):
                window = _window(bench, generator, ours, applying)
                windows[applying].append(window)
                say(f"apply {number} {applying}: {window}")
    return _summary(windows)


def _window(
    bench: Bench, generator: Generator, ours: Contender, applying: bool
) -> dict[str, Any]:
    seconds = bench.options.seconds
    requests = dataclasses.replace(WORKS["rr"], rate=REQUESTS_PER_S)
    connects = dataclasses.replace(WORKS["crr"], connections=CONNECTING)
    clients = [
        generator.start(work, ours.ports[0], ours.pids, WARM_S, seconds)
        for work in (requests, connects)
    ]
    said = ""
    if applying:
        every_ms = (WARM_S + seconds) * 1e3 / APPLIES
        ours.process.tell(f"apply {APPLIES} {every_ms:.3f}")
    kept, opened = (generator.result(c, seconds + 30) for c in clients)
    if applying:
        said = ours.process.line()  # "applied COUNT MEDIAN_US MAX_US"
    return {
        "p99_us": kept["p99_us"],
        "requests": kept["units"],
        "connections": opened["units"],
        "lost": kept["lost"] + kept["wrong"] + opened["failed_all"],
        "applied": [int(word) for word in said.split()[1:]],
    }


def _summary(windows: dict[bool, list[dict[str, Any]]]) -> dict[str, Any]:
    pairs = zip(windows[True], windows[False], strict=True)
    ratios = [on["p99_us"] / off["p99_us"] for on, off in pairs]
    both = windows[True] + windows[False]
    applied = [window["applied"] for window in windows[True]]
    count = sum(a[0] for a in applied)
    took = median(a[1] for a in applied)
    p99 = {on: median(w["p99_us"] for w in windows[on]) for on in windows}
    kept = sum(w["requests"] for w in both)
    opened = sum(w["connections"] for w in both)
    words = (
        f"{count} tables under load, {took:.0f} us each (median); "
        f"{kept:,} requests, {opened:,} connections; "
        f"p99 {p99[True]:.0f} us with, {p99[False]:.0f} us without"
    )
    return {
        "applied": count,
        "lost": sum(window["lost"] for window in both),
        "p99_ratio": [median(ratios), min(ratios), max(ratios)],
        "words": words,
        "windows": windows[True] + windows[False],
    }


def run_dead(bench: Bench) -> list[dict[str, Any]]:
    """Open connections through contenders with one backend of three refusing."""
    names = [n for n in bench.options.contenders if n != "haproxy-forced"]
    if "haproxy" in names:
        names.insert(names.index("haproxy") + 1, "haproxy-redispatch")
    work = dataclasses.replace(WORKS["crr"], connections=8)
    folder = bench.folder / "dead"
    folder.mkdir(exist_ok=True)
    found = []
    for name in names:
        with ExitStack() as stack:
            generator = Generator(stack, bench.generator_cores, folder)
            found.append(_dead(bench, generator, name, work, stack))
        say(f"dead {name}: {found[-1]}")
    return found


def _dead(
    bench: Bench, generator: Generator, name: str, work: Work, stack: ExitStack
) -> dict[str, Any]:
    port = generator.echo_port
    live = [("127.0.0.2", port), ("127.0.0.3", port)]
    setup = bench.setup(name, [*live, ("127.0.0.4", free_port())])
    contender = contenders.start(name, setup, stack)
    # Plain HAProxy spends seconds per dead try: give it time to fail at all.
    seconds = max(bench.options.seconds, 5.0)
    client = generator.start(work, contender.ports[0], [], 0.0, seconds)
    result = generator.result(client, seconds + 30)
    return {
        "contender": name,
        "done": result["units"],
        "failed": result["failed_all"],
    }
