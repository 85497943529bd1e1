"""Comma-separated regular expressions of RE2, as kubectl's filter flags take them.

RE2 answers in time linear in the text: whoever may send a request must not be able to
keep us busy with one. Where its wheel does not exist (musl, free-threaded Python),
Python's `re` stands in for what it can say exactly; the rest is refused at the start.
"""

import importlib
from collections.abc import Callable
from typing import Any

from pyproxy.errors import PyproxyError
from pyproxy.http import standin


def _find_re2() -> Any:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


RE2 = _find_re2()

Search = Callable[[str], Any]

HINT = "install google-re2 for that"


class PatternError(PyproxyError):
    """A regular expression that is none; kubectl ends with this code, too."""

    exit_code = 255


class Patterns:
    """Alternatives. None at all match nothing."""

    def __init__(self, text: str) -> None:
        """Split at every comma, whatever surrounds it. Raise PatternError."""
        compile_one = _compile_re2 if RE2 is not None else compile_re
        self._searches = [compile_one(part) for part in text.split(",") if text]

    def match(self, text: str) -> bool:
        """Whether one of them is found anywhere in `text`."""
        return any(search(text) for search in self._searches)


def _compile_re2(pattern: str) -> Search:
    options = RE2.Options()
    options.log_errors = False
    try:
        search: Search = RE2.compile(pattern, options).search
    except RE2.error as error:
        raise _complaint(error.args[0].decode(errors="replace"), pattern) from error
    return search


def compile_re(pattern: str) -> Search:
    """Return the search of a pattern of RE2 in Python's `re`. Raise PatternError."""
    try:
        return standin.compile_pattern(pattern)
    except standin.SyntaxProblemError as error:
        raise _complaint(str(error), pattern) from error
    except standin.NeedsRe2Error as error:
        why = f"{error} is beyond what stands in for RE2 here ({HINT})"
        raise _complaint(why, pattern) from error


def _complaint(why: str, pattern: str) -> PatternError:
    return PatternError(f"Error compiling re: error parsing regexp: {why}: `{pattern}`")
