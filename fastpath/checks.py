"""Checks of the values that Python gives the core: a TableError names what is wrong."""

from fastpath.errors import TableError

UNIX = "unix:"  # of a host: what follows is the path of a socket
MAX_UNIX_PATH = 107  # sockaddr_un's, less the NUL


def check(fact: bool, complaint: str) -> None:
    if not fact:
        raise TableError(complaint)


def check_text(what: str, value: object) -> None:
    check(isinstance(value, str), f"{what} {value!r} is not a string")


def check_count(what: str, value: object, least: int, most: int) -> None:
    # True is an int to Python, and a mistake to everybody else.
    if isinstance(value, bool) or not isinstance(value, int):
        raise TableError(f"{what} {value!r} is not a whole number")
    check(least <= value <= most, f"{what} {value!r} is not in {least}-{most}")


def check_seconds(what: str, value: object, most: int, *, zero: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TableError(f"{what} {value!r} is not a number of seconds")
    # NaN is not in any range.
    check(0 <= value <= most, f"{what} {value!r} is not in 0-{most} s")
    check(zero or value > 0, f"{what} must be positive")


def check_word(what: str, value: object, words: tuple[str, ...]) -> None:
    known = isinstance(value, str) and value in words
    check(known, f"{what} {value!r} is none of {', '.join(words)}")


def check_unix_path(what: str, host: str) -> None:
    """Refuse the host `unix:PATH` if no socket can have that path."""
    if host.startswith(UNIX):
        path = host[len(UNIX) :].encode()
        check(0 < len(path) <= MAX_UNIX_PATH, f"{what}: path of {len(path)} bytes")
        check(b"\0" not in path, f"{what}: path with a NUL")
