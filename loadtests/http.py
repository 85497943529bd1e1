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
import json
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests import http_contenders, http_report, netns, plot, relay
from loadtests.bench import say
from loadtests.http_bench import HttpBench
from loadtests.measure import Sample, build

DEFAULT_WORKS = "get,half,list,list-gzip,fresh,watch,exec,memory"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="per sample")
    parser.add_argument("--quick", action="store_true", help="a look, not a result")
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    known = ",".join(filter(http_contenders.installed, http_contenders.COMMANDS))
    parser.add_argument("--contenders", default=known, help="default: those installed")
    parser.add_argument("--works", default=DEFAULT_WORKS)
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--patience", type=float, default=90, help="s for repeats")
    parser.add_argument("--write", action="store_true", help="results/http.*")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.patience = 2, 0.8, 0
    options.contenders = options.contenders.split(",")
    options.works = options.works.split(",")
    return options


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
    relay.RESULTS.mkdir(exist_ok=True)
    (relay.RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (relay.RESULTS / f"{stem}.md").write_text(text)
    samples = [Sample(**sample) for sample in result["samples"]]
    title = "ours and peers, best peer = 1; " + result["environment"]["placement"]
    plot.draw(samples, relay.RESULTS / f"{stem}.svg", title, http_report.BARS)


def main() -> None:
    """Run it."""
    options = parse()
    gone = [http_contenders.missing(name) for name in options.contenders]
    if any(gone):
        wanted = ", ".join(what for what in gone if what)
        raise SystemExit(f"not installed: {wanted}; or leave out with --contenders")
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
