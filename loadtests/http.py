"""kubectl proxy's job: ours, kubectl, nginx, HAProxy and Envoy side by side in one run.

    python -m loadtests.http [--quick] [--box] [--write] [--contenders kubectl,nginx]

Works: `get` small GETs over 32 kept connections; `get128`, `get512` over more; `paths`,
`odd` of paths that are met for the first time; `half` the same at half the rate of
the slowest (kubectl aside); `list`, `list-gzip` lists of 10 MB; `fresh` a connection
per request on both sides; `watch` 1,000 watches of which 100 get 100 events/s each;
`exec` upgraded streams; `memory` of idle watches. The rest is as in relay.py:
placement, order, what is taken again.

One upstream for all, in C, because a real API server would be what is measured: TLS
1.3 (AES-128-GCM, P-256), HTTP/1.1, answers framed as kube-apiserver's: `list` chunked,
one item a chunk, in TLS records of 4 KiB. It refuses clients without a token or
X-Forwarded-For. Clients compare every byte of every body; "direct" is the same client
that speaks TLS to the upstream itself.

`fresh`: after each answer the client closes, and the upstream does with `Connection:
close`, so that every proxy has to dial, with a TLS session to resume if it keeps one.
The table of connections says which did.

Not measured: a network; and HTTP/2, which kubectl proxy speaks to a server that offers
it: with nginx as the upstream its CPU per request was the same with and without.
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

from loadtests import command, http_contenders, http_report, netns, plot, relay
from loadtests.bench import say
from loadtests.command import RESULTS, command_line, read, refuse_missing
from loadtests.http_bench import HttpBench
from loadtests.measure import Sample, build

DEFAULT_WORKS = "get,half,list,list-gzip,fresh,watch,exec,memory"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    known = ",".join(filter(http_contenders.installed, http_contenders.COMMANDS))
    parser = command_line(__doc__, "http", contenders=known, works=DEFAULT_WORKS)
    parser.add_argument("--congestion", default="cubic")
    return read(parser, arguments)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all of it and return what was found."""
    bench = HttpBench(options, folder)
    bench.run_rounds()
    environment = relay.environment(options)
    environment["peers"] += f", kubectl {http_contenders.kubectl_version()}"
    environment["peers"] += f"; {ssl.OPENSSL_VERSION} for all that link one"
    return {
        "environment": {**environment, "bodies": bench.files.describe()},
        "samples": [dataclasses.asdict(sample) for sample in bench.samples],
        "memory": bench.run_memory() if "memory" in options.works else [],
        "configurations": bench.configurations,
    }


def write(result: dict[str, Any], text: str, stem: str) -> None:
    """Into results/: data, table and picture."""
    command.write(result, text, stem)
    samples = [Sample(**sample) for sample in result["samples"]]
    title = "ours and peers, best peer = 1; " + result["environment"]["placement"]
    plot.draw(samples, RESULTS / f"{stem}.svg", title, http_report.BARS)


def main() -> None:
    """Run it."""
    options = parse()
    refuse_missing(http_contenders.missing(name) for name in options.contenders)
    signal.signal(signal.SIGTERM, relay.terminate)  # `finally` and `with` happen
    build()
    netns.enter(options.congestion)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="http-bench-") as folder:
        result = measure(options, Path(folder))
    text = http_report.render(result)
    sys.stdout.write(text)
    say(f"took {time.monotonic() - begin:.0f} s")
    if options.write:
        write(result, text, "http-box" if options.box else "http")


if __name__ == "__main__":
    main()
