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
from loadtests.command import command_line, read, refuse_missing, write
from loadtests.measure import build

DEFAULT_WORKS = "get,paths,half,download,first,users,dead"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    known = ",".join(filter(bastion_contenders.installed, bastion_contenders.NAMES))
    parser = command_line(__doc__, "bastion", contenders=known, works=DEFAULT_WORKS)
    parser.add_argument("--congestion", default="cubic")
    return read(parser, arguments)


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


def main() -> None:
    """Run it."""
    options = parse()
    refuse_missing(bastion_contenders.missing(name) for name in options.contenders)
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
