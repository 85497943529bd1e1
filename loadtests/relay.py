"""TCP relays: ours, HAProxy, nginx stream and Envoy side by side in one run.

    python -m loadtests.relay [--quick] [--box] [--write] [--contenders ours,nginx]

Works: `rr` 100-byte requests over 64 kept connections; `half` the same at half the rate
of the slowest; `bulk1`, `bulk8` streams; `crr` connect, one request, close; `idle`
memory; `apply` tables changed under load; `dead` one of three backends gone.

Placement "percore": one worker on core 0, client and server on core 1, for everyone.
"box" (--box): two workers, nothing pinned. Contenders take turns within each round,
the first one moving on by one, so that drift of the machine hits all alike. A sample
during which other programs took a fifth of a core is taken again, within limits.

Not measured: a network. Loopback has no loss, no NIC, and segments of 64 KiB.
"""

import argparse
import dataclasses
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from loadtests import command, contenders, idle, netns, plot, reconfigure, report
from loadtests.bench import Bench, say
from loadtests.command import RESULTS, command_line, read, refuse_missing
from loadtests.measure import Sample, build

DEFAULT_WORKS = "rr,half,bulk1,bulk8,crr,idle,apply,dead"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    known = "ours," + ",".join(contenders.PEERS)
    parser = command_line(__doc__, "relay", contenders=known, works=DEFAULT_WORKS)
    parser.add_argument("--congestion", default="cubic")
    return read(parser, arguments)


def extras(bench: Bench) -> dict[str, Any]:
    """The works that are not measured in rounds."""
    result: dict[str, Any] = {}
    options = bench.options
    if "idle" in options.works:
        result["idle"] = idle.run(bench)
    if "apply" in options.works and "ours" in options.contenders:
        result["reconfigure"] = reconfigure.run_apply(bench)
    if "dead" in options.works:
        result["dead"] = reconfigure.run_dead(bench)
    return result


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """What one has to know to judge the figures."""
    placement = "box: 2 workers, not pinned"
    if not options.box:
        placement = "percore: 1 worker on core 0, client and server on core 1"
    return {
        "placement": placement,
        "rounds": f"{options.rounds} of {options.seconds} s per work and contender",
        "congestion control": netns.congestion_in_use(),
        "machine": machine(),
        "peers": ", ".join(_versions()),
    }


def machine() -> str:
    """Name it."""
    return f"{os.cpu_count()} cores, {_cpu_model()}, Linux {platform.release()}"


def _cpu_model() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(": ")[2]
    return platform.machine()


def _versions() -> list[str]:
    found = []
    programs = {"haproxy": "-v", "nginx": "-v", str(contenders.ENVOY): "--version"}
    for program, flag in programs.items():
        if shutil.which(program) is None:
            continue
        done = subprocess.run([program, flag], capture_output=True, text=True)
        said = (done.stdout + done.stderr).strip().splitlines()[0].split()
        name = Path(program).name
        numbers = [w for part in said for w in part.split("/") if w[:1].isdigit()]
        dotted = [number for number in numbers if number.count(".") >= 2]
        found.append(f"{name} {dotted[0] if dotted else '?'}")
    return found


def write(result: dict[str, Any], text: str, box: bool) -> None:
    """Into results/: data, table and picture."""
    stem = "relay-box" if box else "relay"
    command.write(result, text, stem)
    samples = [Sample(**sample) for sample in result["samples"]]
    title = "ours and peers, best peer = 1; " + result["environment"]["placement"]
    plot.draw(samples, RESULTS / f"{stem}.svg", title)


def terminate(number: int, frame: FrameType | None) -> None:
    """Handler of a signal: end as after the last line."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run it."""
    options = parse()
    refuse_missing(contenders.missing(name) for name in options.contenders)
    signal.signal(signal.SIGTERM, terminate)  # so that `finally` and `with` happen
    build()
    netns.enter(options.congestion)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        bench = Bench(options, Path(folder))
        bench.run_rounds()
        result = {
            "environment": environment(options),
            "samples": [dataclasses.asdict(sample) for sample in bench.samples],
            **extras(bench),
        }
    text = report.render(result)
    sys.stdout.write(text)
    foreign = (
        median(s.foreign_s / s.wall_s for s in bench.samples) if bench.samples else 0
    )
    say(f"took {time.monotonic() - begin:.0f} s; other programs: {foreign:.2f} cores")
    if options.write:
        write(result, text, options.box)


if __name__ == "__main__":
    main()
