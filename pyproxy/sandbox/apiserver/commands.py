"""The programs inside the built-in pods: a handful of words that a shell knows.

They are no processes: nothing that is typed into a pod reaches this machine.
"""

import asyncio
import datetime
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

NOT_FOUND = 127
PROMPT = b"/ # "
LONGEST_SLEEP_S = 3600.0


class Streams(Protocol):
    """Where a command reads and writes."""

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sits at it."""

    async def read(self) -> bytes:
        """Return what came on stdin; b"" at its end."""

    async def write(self, data: bytes) -> None:
        """Write to stdout."""

    async def write_error(self, data: bytes) -> None:
        """Write to stderr."""


_TO_STDERR = ">2"  # `>&2`, in a form that is not cut at the `&`


class NoSuchProgram(Exception):
    """A container has no program of that name."""


@dataclass(slots=True)
class Shell:
    """One run of a command in a container."""

    streams: Streams
    environment: Mapping[str, str]
    log: Callable[[str], None]
    _programs: dict[str, Callable[[Sequence[str]], Awaitable[int]]] = field(init=False)

    def __post_init__(self) -> None:
        self._programs = {
            "cat": self._cat,
            "date": self._date,
            "echo": self._echo,
            "env": self._env,
            "exit": self._exit,
            "false": self._false,
            "hostname": self._hostname,
            "log": self._log,
            "sh": self._sh,
            "sleep": self._sleep,
            "true": self._true,
        }

    async def run(self, arguments: Sequence[str]) -> int:
        """Run a command and return its exit code.

        Raises:
            NoSuchProgram: there is none of that name.
        """
        name = arguments[0].rpartition("/")[2]
        program = self._programs.get("sh" if name in ("bash", "ash") else name)
        if program is None:
            raise NoSuchProgram(arguments[0])
        return await program(arguments[1:])

    async def _sh(self, arguments: Sequence[str]) -> int:
        if arguments[:1] == ["-c"] and len(arguments) > 1:
            return await self.script(arguments[1])
        code, unread = 0, b""
        await self._prompt()
        while chunk := await self.streams.read():
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                code = await self.script(line.decode(errors="replace"))
                if line.split()[:1] == [b"exit"]:
                    return code
                await self._prompt()
        return await self.script(unread.decode(errors="replace")) if unread else code

    async def _prompt(self) -> None:
        if self.streams.is_terminal:
            await self.streams.write(PROMPT)

    async def script(self, text: str) -> int:
        """Run commands joined by `;`, `&&` and `||`, with output to stdout or >&2."""
        code, joint = 0, ";"
        for part, following in _split(text):
            if joint == ";" or (joint == "&&") is (code == 0):
                code = await self._command(part)
                if part[0] == "exit":
                    return code
            joint = following
        return code

    async def _command(self, words: Sequence[str]) -> int:
        run = self
        if words[-1] == _TO_STDERR:
            words, run = (
                words[:-1],
                Shell(Swapped(self.streams), self.environment, self.log),
            )
        words = [self.environment.get(w[1:], "") if w[:1] == "$" else w for w in words]
        try:
            return await run.run(words)
        except NoSuchProgram:
            await self.streams.write_error(f"sh: {words[0]}: not found\n".encode())
            return NOT_FOUND

    async def _echo(self, arguments: Sequence[str]) -> int:
        end = b"\n"
        if arguments[:1] == ["-n"]:
            arguments, end = arguments[1:], b""
        await self.streams.write(" ".join(arguments).encode() + end)
        return 0

    async def _cat(self, arguments: Sequence[str]) -> int:
        if arguments:
            what = f"cat: can't open '{arguments[0]}': No such file or directory\n"
            await self.streams.write_error(what.encode())
            return 1
        while chunk := await self.streams.read():
            await self.streams.write(chunk)
        return 0

    async def _date(self, arguments: Sequence[str]) -> int:
        now = datetime.datetime.now(datetime.UTC)
        await self.streams.write(now.strftime("%a %b %e %H:%M:%S UTC %Y\n").encode())
        return 0

    async def _env(self, arguments: Sequence[str]) -> int:
        lines = [f"{key}={value}\n" for key, value in self.environment.items()]
        await self.streams.write("".join(lines).encode())
        return 0

    async def _hostname(self, arguments: Sequence[str]) -> int:
        await self.streams.write(f"{self.environment['HOSTNAME']}\n".encode())
        return 0

    async def _log(self, arguments: Sequence[str]) -> int:
        """Write a line into the container's log."""
        self.log(" ".join(arguments))
        return 0

    async def _sleep(self, arguments: Sequence[str]) -> int:
        wanted_s = float(arguments[0]) if arguments else 0.0
        await asyncio.sleep(min(wanted_s, LONGEST_SLEEP_S))
        return 0

    async def _exit(self, arguments: Sequence[str]) -> int:
        return int(arguments[0]) & 255 if arguments else 0

    async def _true(self, arguments: Sequence[str]) -> int:
        return 0

    async def _false(self, arguments: Sequence[str]) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Swapped:
    """Streams whose output goes to stderr."""

    inner: Streams
    is_terminal: bool = False

    async def read(self) -> bytes:
        return await self.inner.read()

    async def write(self, data: bytes) -> None:
        await self.inner.write_error(data)

    async def write_error(self, data: bytes) -> None:
        await self.inner.write_error(data)


def _split(text: str) -> list[tuple[list[str], str]]:
    """Commands, each with what joins it to the next."""
    text = re.sub(r"1?>&2", f" {_TO_STDERR} ", text.replace("\n", ";"))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that does not end
        tokens = ["echo", "sh: syntax error", _TO_STDERR]
    for token in tokens:
        if set(token) <= set(";&|"):
            if words:
                found.append((words, token))
            words = []
        else:
            words.append(token)
    return [*found, (words, ";")] if words else found
