"""Secrets of the command line, taken out of what `ps` shows.

Every user of a machine may read the arguments of every process. Flags that hold secrets
are kubectl's, so they stay; but what stood in them is read once and then overwritten.
"""

import ctypes
import re
from collections.abc import Iterator, Sequence

SECRETS = (b"--token", b"--password")  # hidden as a whole
URLS = (b"--server", b"-s", b"--proxy-url")  # whose user and password are
_ARG_START = 48 - 3  # place in proc(5) stat, less what precedes the state
_USER = re.compile(rb"\A(?:[A-Za-z][A-Za-z0-9+.-]*://)?(.*)@", re.DOTALL)


def hide_secrets() -> None:
    """Overwrite secrets among the arguments of this process, if that is possible."""
    try:
        start, end = _place()
    except (OSError, ValueError, IndexError):
        return  # no /proc, as in some sandboxes: then nobody reads it there either
    if not 0 < start < end:
        return
    words = ctypes.string_at(start, end - start).split(b"\0")
    hidden = b"\0".join(masked(words))
    ctypes.memmove(start, hidden, len(hidden))


def masked(words: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the words, each as long as it was, without what nobody should read."""
    before = b""
    for word in words:
        name, equals, value = word.partition(b"=")
        short = word[:2] if word[:2] in URLS and len(word) > 2 else b""
        if before in SECRETS + URLS:
            yield _hidden(before, word)
        elif equals and name in SECRETS + URLS:
            yield b"%b=%b" % (name, _hidden(name, value))
        elif short:
            yield short + _hidden(short, word[2:])
        else:
            yield word
        before = word if before not in SECRETS + URLS else b""


def _hidden(name: bytes, value: bytes) -> bytes:
    if name in SECRETS:
        return b"*" * len(value)
    match = _USER.match(value)
    if match is None:
        return value
    first, last = match.span(1)
    return value[:first] + b"*" * (last - first) + value[last:]


def _place() -> tuple[int, int]:
    """Return where the kernel reads our arguments. Source: proc_pid_stat(5)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = (int(each) for each in fields[_ARG_START : _ARG_START + 2])
    with open("/proc/self/cmdline", "rb") as file:
        shown = file.read()
    if len(shown) != end - start:
        return 0, 0  # the arguments were changed already
    return start, end
