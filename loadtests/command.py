"""The outside of benchmarks that measure contenders at works, in rounds.

Their options, programs that are not there, and where results are written.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def command_line(
    doc: str | None,
    stem: str,
    *,
    contenders: str,
    works: str,
    seconds: float = 3.0,
    patience: float = 90,
) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with its own defaults.

    `doc` is its module's docstring, `stem` the name of its results.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=seconds, help="per sample")
    parser.add_argument("--quick", action="store_true", help="a look, not a result")
    parser.add_argument("--box", action="store_true", help="two workers, not pinned")
    shown = "default: %(default)s"
    parser.add_argument("--contenders", default=contenders, help=shown)
    parser.add_argument("--works", default=works, help=shown)
    parser.add_argument(
        "--patience", type=float, default=patience, help="s for repeats"
    )
    parser.add_argument("--write", action="store_true", help=f"results/{stem}.*")
    return parser


def read(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Read a command line; contenders and works become lists."""
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.patience = 2, 0.8, 0
    options.contenders = options.contenders.split(",")
    options.works = options.works.split(",")
    return options


def refuse_missing(missing: Iterable[str | None]) -> None:
    """End the program if something that is wanted is not there; None = it is."""
    if wanted := ", ".join(what for what in missing if what):
        raise SystemExit(f"not installed: {wanted}; or leave out with --contenders")


def write(result: dict[str, Any], text: str, stem: str) -> None:
    """Into results/: data and tables."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text(text)
