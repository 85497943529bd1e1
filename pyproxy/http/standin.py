"""RE2's language in Python's `re`, as far as that can say it exactly.

A pattern is read by RE2's grammar and written anew: sets of characters as ranges,
anchors as looks around, every repeated thing in a group of its own. Only whether there
is a match is kept, not which one. Nothing is ever read otherwise than RE2 reads it.

Source: Go, regexp/syntax parse.go (Perl flags), of which RE2's own parser is the model.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

MAX_REPEAT = 1000  # RE2's, also of repetitions in repetitions
LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]

DIGIT: Ranges = ((0x30, 0x39),)
SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_PERL = {"d": DIGIT, "s": SPACE, "w": WORD}
_POSIX: dict[str, Ranges] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0, 0x7F),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 0x1F), (0x7F, 0x7F)),
    "digit": DIGIT,
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((9, 13), (32, 32)),
    "upper": ((0x41, 0x5A),),
    "word": WORD,
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_FOLDED = {0x4B: 0x212A, 0x53: 0x17F}  # K and S have a third form in Unicode
_W = "[0-9A-Za-z_]"
_EDGES = {
    "A": r"\A",
    "z": r"\Z",
    "b": f"(?:(?<={_W})(?!{_W})|(?<!{_W})(?={_W}))",
}
_REPEAT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_NAME = re.compile(r"P?<([0-9A-Za-z_]+)>")
_FLAGS = re.compile(r"([imsU]*)(?:-([imsU]+))?([:)])")
_HEX = re.compile(r"x(?:\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2}))")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")


class SyntaxProblemError(ValueError):
    """RE2 refuses it, too."""


class NeedsRe2Error(ValueError):
    """RE2 knows what that means; we cannot say it."""


def compile_pattern(pattern: str) -> Callable[[str], Any]:
    """Return a search that finds what RE2 finds.

    Raise SyntaxProblemError or NeedsRe2Error.
    """
    try:
        return re.compile(_Parser(pattern).whole()).search
    except (re.error, OverflowError, RecursionError) as error:
        raise NeedsRe2Error(f"a pattern of this size ({error})") from error


class _Parser:
    """Goes through a pattern once, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._rest = pattern
        self._flags = frozenset[str]()

    def whole(self) -> str:
        text, _ = self._alternatives()
        if self._rest:
            raise SyntaxProblemError("unexpected )")
        return text

    def _alternatives(self) -> tuple[str, int]:
        """Read up to a closing parenthesis; flags of a group end with it."""
        flags, parts, most = self._flags, [], 1
        while True:
            part, repeated = self._sequence()
            parts.append(part)
            most = max(most, repeated)
            if not self._take("|"):
                self._flags = flags
                return "|".join(parts), most

    def _sequence(self) -> tuple[str, int]:
        parts, most = [], 1
        while self._rest and self._rest[0] not in "|)":
            found = self._piece()
            if found is None:  # flags that hold from here on
                continue
            part, repeated = found
            parts.append(part)
            most = max(most, repeated)
        return "".join(parts), most

    def _piece(self) -> tuple[str, int] | None:
        """Read one thing and how often it may stand there."""
        if self._repetition() is not None:
            raise SyntaxProblemError("missing argument to repetition operator")
        atom = self._atom()
        if atom is None:
            if self._repetition() is not None:  # of what stands before the flags
                raise NeedsRe2Error("a repetition after flags")
            return None
        text, most = atom
        times = self._repetition()
        if times is None:
            return text, most
        self._take("?")  # lazy: which match it is does not matter
        if self._repetition() is not None:
            raise SyntaxProblemError("invalid nested repetition operator")
        written, count = times
        if most * max(1, count) > MAX_REPEAT:
            raise SyntaxProblemError("invalid repeat count")
        return f"(?:{text}){written}", most * max(1, count)

    def _repetition(self) -> tuple[str, int] | None:
        """Read a repetition, and up to how many copies it stands for."""
        for sign in "*+?":
            if self._take(sign):
                return sign, 1
        found = _REPEAT.match(self._rest)
        if found is None:
            return None
        low = int(found[1])
        high = int(found[3]) if found[3] else None
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise SyntaxProblemError("invalid repeat count")
        self._rest = self._rest[found.end() :]
        return found[0], low if high is None else high

    def _atom(self) -> tuple[str, int] | None:
        sign = self._rest[0]
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._class(), 1
        if sign == "\\":
            return self._escape(), 1
        self._rest = self._rest[1:]
        multi = "m" in self._flags
        if sign == "^":
            return (r"(?<![^\n])" if multi else r"\A"), 1
        if sign == "$":
            return (r"(?![^\n])" if multi else r"\Z"), 1
        if sign == ".":
            return (_written(((0, LAST),) if "s" in self._flags else _DOT)), 1
        return self._literal(ord(sign)), 1

    def _group(self) -> tuple[str, int] | None:
        self._rest = self._rest[1:]
        if self._take("?"):
            if named := _NAME.match(self._rest):
                self._rest = self._rest[named.end() :]
            elif self._rest[:1] == "<" or self._rest[:2] == "P<":
                raise SyntaxProblemError("invalid named capture")
            else:
                return self._flagged()
        return self._inside(self._flags)

    def _flagged(self) -> tuple[str, int] | None:
        found = _FLAGS.match(self._rest)
        if found is None:
            raise SyntaxProblemError("invalid or unsupported Perl syntax")
        flags = (self._flags | set(found[1])) - set(found[2] or "")
        self._rest = self._rest[found.end() :]
        if found[3] == ":":
            return self._inside(flags)
        self._flags = flags
        return None

    def _inside(self, flags: frozenset[str]) -> tuple[str, int]:
        outside, self._flags = self._flags, flags
        text, most = self._alternatives()
        self._flags = outside
        if not self._take(")"):
            raise SyntaxProblemError("missing closing )")
        return f"(?:{text})", most

    def _escape(self) -> str:
        letter = self._rest[1:2]
        if letter == "Q":
            return self._quoted()
        if letter in _EDGES and letter:
            self._rest = self._rest[2:]
            return _EDGES[letter]
        if letter and letter in "pPCB":  # RE2 finds \\B within a letter of two bytes
            raise NeedsRe2Error(f"\\{letter}")
        if (ranges := self._perl()) is not None:
            return _written(ranges)
        return self._literal(self._character())

    def _quoted(self) -> str:
        body, found, rest = self._rest[2:].partition(r"\E")
        self._rest = rest
        if not body:
            # Before a repetition RE2 and Go differ in what an empty quote is.
            if self._repetition() is not None:
                raise NeedsRe2Error(r"a repetition after \Q\E")
            return ""
        *first, last = (self._literal(ord(each)) for each in body)
        if not first:
            return last
        # A repetition is of the last character alone.
        times = self._repetition() if found else None
        if times is not None:
            raise NeedsRe2Error(r"a repetition after \Q..\E")
        return "".join((*first, last))

    def _perl(self) -> Ranges | None:
        letter = self._rest[1:2]
        known = _PERL.get(letter.lower()) if letter else None
        if known is None:
            return None
        self._rest = self._rest[2:]
        known = _folded(known) if "i" in self._flags else known
        return _without(known) if letter.isupper() else known

    def _character(self) -> int:
        """Read an escape of one character."""
        after = self._rest[1:]
        if not after:
            raise SyntaxProblemError("trailing backslash at end of expression")
        if found := _HEX.match(after):
            code = int(found[1] or found[2], 16)
            if code > LAST:
                raise SyntaxProblemError("invalid escape sequence")
        elif found := _OCTAL.match(after):
            code = int(found[0], 8)
        elif after[0] in _CONTROL:
            code, found = _CONTROL[after[0]], re.match(".", after)
        elif after[0].isascii() and not after[0].isalnum():
            code, found = ord(after[0]), re.match("(?s).", after)
        else:
            raise SyntaxProblemError("invalid escape sequence")
        assert found is not None
        self._rest = after[found.end() :]
        return code

    def _class(self) -> str:
        self._rest = self._rest[1:]
        is_negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        is_first = True
        while is_first or not self._take("]"):
            if not self._rest:
                raise SyntaxProblemError("missing closing ]")
            is_first = False
            ranges += self._item()
        found = _sorted(ranges)
        if "i" in self._flags:
            found = _folded(found)
        return _written(_without(found) if is_negated else found)

    def _item(self) -> Iterable[tuple[int, int]]:
        if self._rest.startswith("[:") and ":]" in self._rest[2:]:
            name, _, self._rest = self._rest[2:].partition(":]")
            if name.removeprefix("^") not in _POSIX:
                raise SyntaxProblemError("invalid character class range")
            found = _POSIX[name.removeprefix("^")]
            if "i" in self._flags:
                found = _folded(found)
            return _without(found) if name.startswith("^") else found
        if self._rest.startswith("\\"):
            if self._rest[1:2] in ("p", "P"):
                raise NeedsRe2Error(self._rest[:2])
            if (ranges := self._perl()) is not None:
                return ranges
        low = high = self._member()
        if self._rest[:1] == "-" and self._rest[1:2] not in ("", "]"):
            self._rest = self._rest[1:]
            high = self._member()
        if high < low:
            raise SyntaxProblemError("invalid character class range")
        return ((low, high),)

    def _member(self) -> int:
        if self._rest.startswith("\\"):
            return self._character()
        if not self._rest:
            raise SyntaxProblemError("missing closing ]")
        code, self._rest = ord(self._rest[0]), self._rest[1:]
        return code

    def _literal(self, code: int) -> str:
        ranges: Ranges = ((code, code),)
        return _written(_folded(ranges) if "i" in self._flags else ranges)

    def _take(self, sign: str) -> bool:
        if not self._rest.startswith(sign):
            return False
        self._rest = self._rest[len(sign) :]
        return True


def _sorted(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the same characters, in order and each once."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def _without(ranges: Ranges) -> Ranges:
    """Return all other characters."""
    found, begin = [], 0
    for low, high in _sorted(ranges):
        if begin < low:
            found.append((begin, low - 1))
        begin = high + 1
    if begin <= LAST:
        found.append((begin, LAST))
    return tuple(found)


def _folded(ranges: Ranges) -> Ranges:
    """Return the same letters, small and capital. Raise NeedsRe2Error beyond ASCII."""
    more: list[tuple[int, int]] = []
    for low, high in ranges:
        if high > 0x7F and (low, high) != (0, LAST):
            raise NeedsRe2Error("letters beyond ASCII without regard to their case")
        for code in range(low, min(high, 0x7F) + 1):
            upper = ord(chr(code).upper()) if chr(code).isalpha() else 0
            if upper:
                more += [(upper, upper), (upper + 32, upper + 32)]
            if upper in _FOLDED:
                more.append((_FOLDED[upper], _FOLDED[upper]))
    return _sorted((*ranges, *more))


def _written(ranges: Ranges) -> str:
    if not ranges:
        return "(?!)"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return f"\\U{ranges[0][0]:08x}"
    return "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in ranges) + "]"


_DOT = _without(((10, 10),))
