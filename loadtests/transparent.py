"""One transparent listener for 50,000 vips against one bound vip: connections a second.

    python -m loadtests.transparent [--rounds 9] [--write]

Both are our engine in one run, interleaved: `bound` has one vip on all addresses,
`transparent` finds the address that each client dialled among 50,000. Clients dial 16
addresses in turn, send one request and close (`crr` of `loadtests.relay`).
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests import contenders, netns, relay
from loadtests.before import rows
from loadtests.bench import Bench, say
from loadtests.command import RESULTS
from loadtests.contenders import Setup
from loadtests.measure import build
from loadtests.report import prose, table

VIPS = 50_000


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="per sample")
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--patience", type=float, default=0, help="s for repeats")
    parser.add_argument("--write", action="store_true", help="results/transparent.md")
    options = parser.parse_args(arguments)
    options.quick = False
    options.contenders, options.works = ["bound", "transparent"], ["crr"]
    return options


def main() -> None:
    """Run it."""
    options = parse()
    bound = contenders.COMMANDS["ours"]

    def command(setup: Setup) -> list[str]:
        return [*bound(setup), "--amid", str(VIPS)]

    contenders.COMMANDS.update(bound=bound, transparent=command)
    signal.signal(signal.SIGTERM, relay.terminate)  # so that `with` happens
    build()
    netns.enter(options.congestion)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="transparent-bench-") as folder:
        bench = Bench(options, Path(folder))
        bench.run_rounds()
    head = f"# {VIPS:,} vips behind a transparent listener, against one bound vip"
    text = f"{head}\n\n{prose(relay.environment(options))}\n\n"
    text += table(rows(bench.samples, "transparent", "bound")) + "\n"
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        (RESULTS / "transparent.md").write_text(text)


if __name__ == "__main__":
    main()
