"""What can go wrong on the way to an apiserver; in kubectl's words if it has some."""

import unicodedata
from collections.abc import Sequence

from pyproxy.errors import PyproxyError


class AccessError(PyproxyError):
    """No way to an apiserver, or no valid one. Exit code 1, as kubectl's.

    `text` is what kubectl prints, whole: `error: context "x" does not exist`. No secret
    is ever in it.
    """

    def __init__(self, message: str, text: str = "") -> None:
        self.text = text or f"error: {message}"
        super().__init__(message)


class CredentialsError(PyproxyError):
    """There are no credentials to show now; a later request may be luckier."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"getting credentials: {why}")


def not_loaded(complaints: Sequence[str]) -> AccessError:
    """What kubectl says about files that it cannot read: a line for each."""
    lines = "\n".join(complaints)
    return AccessError(lines, "" if len(complaints) == 1 else lines)


def invalid(complaints: Sequence[str]) -> AccessError:
    """What kubectl says about entries that contradict themselves: all of it at once."""
    if len(complaints) == 1:
        return AccessError(complaints[0])
    listed = "".join(f"\n* {each}" for each in complaints)
    return AccessError("\n".join(complaints), f"Error in configuration: {listed}")


def neutral(text: str) -> str:
    """Spell control characters out (U+001B), so that a terminal does not obey them."""
    return "".join(c if _is_plain(c) else f"U+{ord(c):04X}" for c in text)


def _is_plain(character: str) -> bool:
    # Letters, marks, numbers, punctuation, symbols, separators.
    return character in "\n\t" or unicodedata.category(character)[0] in "LMNPSZ"
