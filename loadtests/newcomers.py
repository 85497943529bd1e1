"""How long new clients wait behind busy ones, against HAProxy and nginx.

    python -m loadtests.newcomers [--rounds 7] [--clients 2000] [--box] [--write]

All clients connect at once, and each keeps sending requests of 100 bytes, one at a
time, from its first answer on: those that were let in first compete with the rest. What
counts is how long the last of them waits for its first answer. Contenders take turns
in each round; one worker on a core of its own, or with `--box` two and no pinning.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests import contenders, netns, relay
from loadtests.bench import Bench, say
from loadtests.command import RESULTS
from loadtests.measure import BUILD, Generator, build
from loadtests.process import before_exec
from loadtests.report import prose

CONTENDERS = ["ours", "haproxy", "nginx"]
COLUMNS = {
    "p50": "first answer p50, ms",
    "p99": "p99",
    "longest": "longest",
    "later": "p99 of later answers, ms",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="per sample")
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--patience", type=float, default=0, help="s for repeats")
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS)
    parser.add_argument("--write", action="store_true", help="results/newcomers.md")
    options = parser.parse_args(arguments)
    options.quick, options.works = False, []
    return options


def sample(options: argparse.Namespace, port: int, cores: Any) -> dict[str, float]:
    """One burst of clients."""
    command = [str(BUILD / "newcomers"), str(port), str(options.clients)]
    done = subprocess.run(
        [*command, str(options.seconds)],
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=before_exec(cores),
    )
    result: dict[str, float] = json.loads(done.stdout)
    result["rate"] = result.pop("answers") / options.seconds
    return result


def rounds(options: argparse.Namespace, folder: Path) -> dict[str, list[Any]]:
    """All samples, by contender."""
    bench = Bench(options, folder)
    with ExitStack() as stack:
        generator = Generator(stack, bench.generator_cores, folder)
        echo = [("127.0.0.1", generator.echo_port)]
        field = [
            contenders.start(name, bench.setup(name, echo), stack)
            for name in options.contenders
        ]
        samples: dict[str, list[Any]] = {name: [] for name in options.contenders}
        for number in range(options.rounds):
            first = number % len(field)
            for contender in [*field[first:], *field[:first]]:
                port = contender.ports[0]
                got = sample(options, port, bench.generator_cores)
                samples[contender.name].append(got)
                say(f"{number} {contender.name:15} {got}")
    return samples


def report(samples: dict[str, list[Any]]) -> str:
    """A table: median and range of the rounds."""
    names = [*COLUMNS.values(), "answers a second"]
    lines = [f"| contender | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, rows in samples.items():
        cells = []
        for column in COLUMNS:
            values = sorted(row[column] / 1000 for row in rows)
            middle = statistics.median(values)
            cells.append(f"{middle:.0f} ({values[0]:.0f}-{values[-1]:.0f})")
        cells.append(f"{statistics.median(row['rate'] for row in rows):,.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    options = parse()
    signal.signal(signal.SIGTERM, relay.terminate)  # so that `with` happens
    build()
    netns.enter(options.congestion)
    with tempfile.TemporaryDirectory(prefix="newcomers-bench-") as folder:
        samples = rounds(options, Path(folder))
    head = f"# {options.clients:,} clients that come at once and stay busy"
    text = f"{head}\n\n{prose(relay.environment(options))}\n\n{report(samples)}\n"
    sys.stdout.write(text)
    if options.write:
        (RESULTS / "newcomers.md").write_text(text)


if __name__ == "__main__":
    main()
