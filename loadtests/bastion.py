"""An apiserver's proxy URLs: ours, kube-apiserver, nginx and Envoy side by side.

    python -m loadtests.bastion [--quick] [--box] [--write] [--contenders ours,nginx]

Works: `get` small GETs of one path of a Service over 32 kept TLS connections with a
bearer token; `paths` of 1,000 paths in turn; `half` at half the rate of the slowest
(kube-apiserver aside); `download` bodies of 1 GB; `first` users whom nobody has met;
`users` 2,000 users with ten paths each; `dead` one of three pods is killed. The rest is
as in relay.py: placement, order, what is taken again.

The pods behind all are one program in C. They refuse requests that show Authorization
or no X-Forwarded-For; clients compare every byte of every body. How contenders find out
who may pass stands in bastion_contenders.py; `nginx` asks nobody, for a bar's sake.

kube-apiserver with its etcd runs where $KUBEBUILDER_ASSETS has it, or envtest's folder;
else it is left out, and that is said.

Not measured: a network; and HTTP/2, which kube-apiserver and Envoy would speak with
clients that offer it.
"""

import argparse
import dataclasses
import json
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests import bastion_contenders, bastion_report, netns, relay
from loadtests.bastion_bench import BastionBench
from loadtests.bastion_scene import add_addresses
from loadtests.bench import say
from loadtests.measure import build

DEFAULT_WORKS = "get,paths,half,download,first,users,dead"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="per sample")
    parser.add_argument("--quick", action="store_true", help="a look, not a result")
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    known = ",".join(filter(bastion_contenders.installed, bastion_contenders.NAMES))
    parser.add_argument("--contenders", default=known, help="default: those installed")
    parser.add_argument("--works", default=DEFAULT_WORKS)
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--patience", type=float, default=90, help="s for repeats")
    parser.add_argument("--write", action="store_true", help="results/bastion.*")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.patience = 2, 0.8, 0
    options.contenders = options.contenders.split(",")
    options.works = options.works.split(",")
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all of it and return what was found."""
    bench = BastionBench(options, folder)
    extra = bench.run()
    environment = relay.environment(options)
    environment["peers"] += f"; {ssl.OPENSSL_VERSION} for all that link one"
    absent = [n for n in bastion_contenders.NAMES if n not in options.contenders]
    whys = {
        name: bastion_contenders.missing(name) or "not asked for" for name in absent
    }
    if whys:
        environment["left out"] = ", ".join(f"{n} ({why})" for n, why in whys.items())
    return {
        "environment": {**environment, "bodies": bench.files.describe()},
        "samples": [dataclasses.asdict(sample) for sample in bench.samples],
        **extra,
        "configurations": bench.configurations,
    }


def write(result: dict[str, Any], text: str, stem: str) -> None:
    """Into results/: data and tables."""
    relay.RESULTS.mkdir(exist_ok=True)
    (relay.RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (relay.RESULTS / f"{stem}.md").write_text(text)


def main() -> None:
    """Run it."""
    options = parse()
    gone = [bastion_contenders.missing(name) for name in options.contenders]
    if any(gone):
        wanted = ", ".join(what for what in gone if what)
        raise SystemExit(f"not installed: {wanted}; or leave out with --contenders")
    for name in bastion_contenders.NAMES:
        if name not in options.contenders:
            why = bastion_contenders.missing(name) or "not asked for"
            say(f"left out: {name}: {why}")
    signal.signal(signal.SIGTERM, relay.terminate)  # `finally` and `with` happen
    build()
    netns.enter(options.congestion)
    add_addresses()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bastion-bench-") as folder:
        result = measure(options, Path(folder))
    text = bastion_report.render(result)
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        write(result, text, "bastion-box" if options.box else "bastion")


if __name__ == "__main__":
    main()
