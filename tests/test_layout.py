"""The walls that linters cannot see: they do not read `cimport` lines.

The contracts between `.py` modules are in pyproject.toml, [tool.importlinter].
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "fastpath"

# Packages of the core from the ground up, and the rooms of each likewise: a file may
# use what stands before it. `tcp`, `udp` and `http` never import each other.
PACKAGES = {
    "api": "errors checks question policy tlsspec spec snapshot",
    "base": """
        linux addr timer slab stats pipe poller mailbox limit affinity spill socket end
        half context
    """,
    "ring": "rendezvous shortlist matching rounds ring",
    "tls": """
        openssl pem names bio strength context refusal buffers transport peer endpoint
    """,
    "http1": "field target framing firstline chunks head compose",
    "table": """
        keep registry listener networks table block delta draft balancer dialler
        admission
    """,
    "tcp": "proxyhead relay dial naming batch",
    "udp": "",
    "http": """
        key location filter verdict state record body asking heads idle conn reply
        upconn request question answer response tunnel exchange events
    """,
    "worker": "fleet changes coalesce accept post takeover worker",
    "": "verdict_block verdict_tags verdict_api stats_report publisher engine",
}
NEIGHBOURS = ("tcp", "udp", "http")
FLOORS = [
    f"{package}.{room}".removeprefix(".")
    for package, rooms in PACKAGES.items()
    for room in rooms.split()
]

MOST_LINES = 400
MOST_LINES_OF_ONE = 40  # function
USED = re.compile(r"^\s*(?:from|c?import) fastpath\.([\w.]+)", re.MULTILINE)
FOREIGN = re.compile(
    r"^\s*(?:from|import) (pyproxy|kubernetes|msgspec|asyncio|uvloop|tests)\b",
    re.MULTILINE,
)
# A declaration or definition, up to the end of its signature; not a block of
# foreign ones (`cdef extern from ... nogil:`).
NOGIL_FUNCTION = re.compile(r"^[^#\n\"]*\)([^()\n#]*\bnogil\b[^()\n#]*)$", re.MULTILINE)
CORE_FILES = sorted([*CORE.rglob("*.pyx"), *CORE.rglob("*.pxd")])
CORE_ALL = sorted([*CORE_FILES, *CORE.rglob("*.py"), *CORE.rglob("*.pyi")])


def name_of(path: Path) -> str:
    """The floor that `path` is part of."""
    return floor_of(".".join(path.relative_to(CORE).with_suffix("").parts))


def floor_of(module: str) -> str:
    """The floor of a module below fastpath, by its dotted name."""
    return ".".join(module.split(".")[:2])


def used_by(path: Path) -> set[str]:
    """Floors of the core that `path` names, less its own."""
    found = {floor_of(name) for name in USED.findall(path.read_text())}
    return found - {name_of(path)}


def all_matches(pattern: str, paths: Iterable[Path]) -> list[str]:
    """Name of the file for each line that matches."""
    regex = re.compile(pattern, re.MULTILINE)
    return [path.name for path in paths for _ in regex.findall(path.read_text())]


def by_name(path: Path) -> str:
    """Id of a test about `path`."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE_ALL, ids=by_name)
def test_core_imports_only_go_down(path: Path) -> None:
    if path.stem == "__init__":
        return  # the door; it stands on no floor
    me = name_of(path)
    assert me in FLOORS, "a new room needs its place in PACKAGES"
    for name in used_by(path):
        below = FLOORS.index(name) < FLOORS.index(me)
        assert below, f"{path.name} -> {name}"
        packages = {name.partition(".")[0], me.partition(".")[0]}
        assert len(packages.intersection(NEIGHBOURS)) < 2, f"{path.name} -> {name}"


@pytest.mark.parametrize("path", CORE_ALL, ids=by_name)
def test_core_never_hears_of_what_is_above_the_wall(path: Path) -> None:
    assert not FOREIGN.findall(path.read_text())


def test_gil_is_released_once_and_never_taken_back() -> None:
    # Rule 2: the worker's thread leaves Python once, for its whole life.
    assert all_matches(r"^\s*with nogil\s*:", CORE_FILES) == ["worker.pyx"]
    assert all_matches(r"\bwith gil\b", CORE_FILES) == []


@pytest.mark.parametrize("path", CORE_FILES, ids=by_name)
def test_nogil_implies_noexcept(path: Path) -> None:
    # Rule 1: without it Cython takes the GIL after calls to look for an exception.
    foreign = path.parent.name == "linux"  # C functions raise nothing by nature
    for tail in NOGIL_FUNCTION.findall(path.read_text()):
        assert foreign or "noexcept" in tail, f"{path.name}: ){tail}"


def test_core_uses_no_textual_include_and_no_deprecated_constants() -> None:
    assert all_matches(r"^\s*(?:include\s+[\"']|DEF\s)", CORE_FILES) == []


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.pyx")), ids=by_name)
def test_every_room_that_others_enter_has_its_door(path: Path) -> None:
    dotted = re.escape(name_of(path))
    cimported = re.compile(rf"^\s*from fastpath\.{dotted} cimport", re.MULTILINE)
    others = [other for other in CORE_FILES if name_of(other) != name_of(path)]
    if any(cimported.search(other.read_text()) for other in others):
        assert path.with_suffix(".pxd").is_file(), "others cimport it"
    imported = re.compile(rf"^\s*from fastpath\.{dotted} import", re.MULTILINE)
    if any(imported.search(other.read_text()) for other in python_files()):
        assert path.with_suffix(".pyi").is_file(), "Python sees its names"


def python_files() -> list[Path]:
    """Every `.py` of the project."""
    folders = ("fastpath", "pyproxy", "tests", "loadtests", "tools")
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def test_files_are_short_enough_to_hold_one_idea() -> None:
    lines = {p: p.read_text().count("\n") for p in [*CORE_FILES, *python_files()]}
    assert len(lines) > 300
    assert {p.name: n for p, n in lines.items() if n > MOST_LINES} == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first line of its body to the last one, docstring apart."""
    is_told = ast.get_docstring(function, clean=False) is not None
    body = function.body[is_told:] or function.body
    return (function.end_lineno or 0) - body[0].lineno + 1


def test_functions_are_short_enough_to_be_seen_at_once() -> None:
    lines = {
        f"{path.name}:{node.name}": lines_of(node)
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lines) > 3000
    assert {name: n for name, n in lines.items() if n > MOST_LINES_OF_ONE} == {}
