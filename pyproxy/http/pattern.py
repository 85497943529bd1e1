"""Comma-separated regular expressions of RE2, as kubectl's filter flags take them.

RE2 answers in time linear in the text: a client must not be able to keep us busy with
one request. Where its wheel does not exist (musl, free-threaded Python),
Python's `re` stands in, held to the same language as far as filters use it.
"""

import importlib
import re
from collections.abc import Callable
from typing import Any

from pyproxy.errors import PyproxyError


def _find_re2() -> Any:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


RE2 = _find_re2()

Search = Callable[[str], Any]

# A class, an escape, or what means something else, or nothing, to RE2.
_PIECES = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|\$|\(\?<?[=!]|\(\?>|\(\?\(")
_REFUSED = ("(?=", "(?!", "(?<=", "(?<!", "(?>", "(?(")


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
    """Return the search of what Python makes of a pattern of RE2."""

    def translate(piece: re.Match[str]) -> str:
        text = piece[0]
        if text in _REFUSED or (text[0] == "\\" and text[1] in "123456789Z"):
            raise _complaint("invalid or unsupported Perl syntax", pattern)
        # To Python, `$` also stands before a newline at the end.
        return {"$": r"\Z", r"\z": r"\Z"}.get(text, text)

    try:
        return re.compile(_PIECES.sub(translate, pattern), re.ASCII).search
    except (re.error, OverflowError, RecursionError) as error:
        raise _complaint(str(error), pattern) from error


def _complaint(why: str, pattern: str) -> PatternError:
    return PatternError(f"Error compiling re: error parsing regexp: {why}: `{pattern}`")
