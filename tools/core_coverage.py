"""Which lines of the core ran: `python -m tools.core_coverage build/coverage`.

The core was built there with FASTPATH_COVERAGE=1 and tests have run. gcov is asked for
what each object counted; its figures stand under the lines of `.pyx` files, since
Cython wrote `#line` for each. Cython's own way, a build with `linetrace`, was tried:
each line of a worker takes the GIL, so that tests take ten times as long and threads
run in turns.

A line counts as run when any of the C that it became has run. `def` lines, which C
knows only as part of a module's start, are no lines here.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

Lines = dict[int, int]  # how often each ran, by number
SIGNATURES = ("cdef", "cpdef", "def", "class", "cimport", "from")


def objects(folder: Path) -> Iterator[dict[str, Any]]:
    """Say what gcov knows of each object that has run."""
    for path in sorted(folder.rglob("*.gcda")):
        name = str(path.relative_to(folder))
        command = ["gcov", "--json-format", "--stdout", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        yield from (json.loads(line) for line in done.stdout.splitlines() if line)


def counted(folder: Path) -> dict[str, Lines]:
    """Lines by source file."""
    found: dict[str, Lines] = defaultdict(dict)
    for one in objects(folder):
        for source in one["files"]:
            if not source["file"].endswith(".pyx"):
                continue
            lines = found[source["file"]]
            for line in source["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, 0) + line["count"]
    return found


def code_lines(path: Path) -> set[int]:
    """Lines that can run; a signature is not among them."""
    plain = set()
    for number, text in enumerate(path.read_text().splitlines(), 1):
        start = text.strip().split(" ", 1)[0]
        if start and start not in SIGNATURES and not start.startswith(("#", "@", '"')):
            plain.add(number)
    return plain


def spans(numbers: list[int]) -> str:
    """Write 3, 4, 5 and 9 as 3-5, 9."""
    runs = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}" for run in runs)


def main() -> None:
    """Print a table, worst file first, and the lines that no test reached."""
    folder = Path(sys.argv[1])
    rows, total, reached = [], 0, 0
    for name, lines in counted(folder).items():
        able = sorted(lines.keys() & code_lines(folder / name))
        missed = [number for number in able if not lines[number]]
        total, reached = total + len(able), reached + len(able) - len(missed)
        share = 1 - len(missed) / max(1, len(able))
        rows.append((share, f"{name:36} {len(able):5} {share:5.0%}  {spans(missed)}"))
    for _, row in sorted(rows):
        sys.stdout.write(row + "\n")
    sys.stdout.write(f"{'lines of the core':36} {total:5} {reached / total:5.1%}\n")


if __name__ == "__main__":
    main()
