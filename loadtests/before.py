"""This tree against an earlier one: is anything slower than it was?

    git worktree add ../before COMMIT && (cd ../before && tools/compile.sh PYTHON)
    python -m loadtests.before ../before [--layer http] [--rounds 9] [--write]

Both trees run the works of `loadtests.relay` or `loadtests.http` as two contenders of
one run, interleaved; ratios are taken within a round. CPU says more than rate: it is
known to a few per cent on a busy machine. Works that are not measured in rounds
(`memory`, `idle`) are left out.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests import contenders, http_contenders, netns, relay
from loadtests.bench import Bench, say
from loadtests.command import RESULTS
from loadtests.contenders import Setup
from loadtests.http_bench import HttpBench
from loadtests.http_contenders import HttpSetup
from loadtests.measure import Sample, build
from loadtests.report import Samples, prose, table

WORKS = {
    "relay": "rr,bulk1,bulk8,up1,crr",
    "http": "get,list,list-gzip,fresh,watch,exec",
}
METRICS = {"proxy_cpu": "CPU of the proxy", "rate": "rate", "p99_us": "p99"}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "tree", type=Path, help="compiled checkout of an earlier commit"
    )
    parser.add_argument("--layer", choices=WORKS, default="relay")
    parser.add_argument("--works", help="default: all that are measured in rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.5, help="per sample")
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--patience", type=float, default=0, help="s for repeats")
    parser.add_argument("--write", action="store_true", help="results/before-LAYER.md")
    options = parser.parse_args(arguments)
    options.quick = False
    options.contenders = ["before", "ours"]
    options.works = (options.works or WORKS[options.layer]).split(",")
    return options


def add_contender(tree: Path) -> None:
    """Make "before" a contender: our own command, started in `tree`."""
    inside = ["env", "-C", str(tree.resolve())]
    ours, ours_http = contenders.COMMANDS["ours"], http_contenders.COMMANDS["ours"]

    def command(setup: Setup) -> list[str]:
        return inside + ours(setup)

    def http_command(setup: HttpSetup) -> list[str]:
        return inside + ours_http(setup)

    contenders.COMMANDS["before"] = command
    http_contenders.COMMANDS["before"] = http_command


def rows(samples: Sequence[Sample], name: str, other: str) -> list[list[str]]:
    """Ratios of two contenders, one row per work and metric."""
    found = [["work", "metric", f"{name} / {other} (min-max)", "rounds"]]
    for work in dict.fromkeys(sample.work for sample in samples):
        of_work = Samples(samples, work)
        mark = " (noisy)" if of_work.noisy else ""
        both = list(of_work.by_name[name].values())
        for metric, label in METRICS.items():
            if getattr(both[0], metric, None) is None:
                continue
            ratio = of_work.ratio(name, other, metric)
            found.append([work, label, str(ratio), f"{len(both)}{mark}"])
    return found


def main() -> None:
    """Run it."""
    options = parse()
    add_contender(options.tree)
    signal.signal(signal.SIGTERM, relay.terminate)  # so that `with` happens
    build()
    netns.enter(options.congestion)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="before-bench-") as folder:
        bench_of = HttpBench if options.layer == "http" else Bench
        bench = bench_of(options, Path(folder))
        bench.run_rounds()
    head = f"# {options.layer}: now against before"
    text = f"{head}\n\n{prose(relay.environment(options))}\n\n"
    text += table(rows(bench.samples, "ours", "before")) + "\n"
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        (RESULTS / f"before-{options.layer}.md").write_text(text)


if __name__ == "__main__":
    main()
