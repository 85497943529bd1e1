"""Comma-separated regular expressions of RE2, as kubectl's filter flags take them.

RE2 answers in time linear in the text: a client must not be able to keep us busy with
one request. Where its wheel does not exist (musl, free-threaded Python),
Python's `re` stands in for what it can say exactly; the rest is refused at the start.
"""

import importlib
import re
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

# Patterns of which it is plain what each of their matches has: an anchor, text, and
# stretches of anything. A quantifier counts for what stands before it.
_STRETCH = r"(?:\.|\[\^/\])[*+]?"
_TEXT = r"(?:[A-Za-z0-9/_:,=~-]|\\[./_-])"
_SIMPLE = re.compile(rf"\^?(?:{_STRETCH}|{_TEXT}+(?![*+?{{]))*\$?")
_WORD = re.compile(rf"{_STRETCH}|({_TEXT}+)")
# What each path has that begins with a slash.
_EVERYTHING = re.compile(r"\^?/?(?:\.\*)?")
ALWAYS = ("", "^", ".*", "^.*")  # found in whatever text
NOTHING = "^$"  # matches no path: each begins with a slash


class PatternError(PyproxyError):
    """A regular expression that is none; kubectl ends with this code, too."""

    exit_code = 255


class Patterns:
    """Alternatives. None at all match nothing."""

    def __init__(self, text: str) -> None:
        """Split at every comma, whatever surrounds it. Raise PatternError."""
        parts = text.split(",") if text else []
        # By the word that each match has, a text without it need not be searched.
        self._searches = [(word_in(part) or "", _compile(part)) for part in parts]
        known = [word_in(part) for part in parts if part != NOTHING]
        # A path must have one of these to be matched; "" stands for a pattern that
        # matches every path; None = unknown.
        words = frozenset(word for word in known if word is not None)
        self.words = None if None in known else words

    def match(self, text: str) -> bool:
        """Whether one of them is found anywhere in `text`."""
        for word, search in self._searches:
            if word in text and search(text):
                return True
        return False


def word_in(pattern: str) -> str | None:
    """Return a text that all matches of a pattern have; None = unknown.

    The last one: a subresource stands at the end, and few paths have it. "" = the
    pattern matches every path that begins with a slash.
    """
    if _EVERYTHING.fullmatch(pattern):
        return ""
    if not _SIMPLE.fullmatch(pattern):
        return None
    found = [each[1] for each in _WORD.finditer(pattern) if each[1]]
    return found[-1].replace("\\", "") if found else None


def _compile(pattern: str) -> Search:
    if pattern in ALWAYS:
        return lambda text: True
    return _compile_re2(pattern) if RE2 is not None else compile_re(pattern)


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
