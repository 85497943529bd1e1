"""Flags as Go programs take them, and errors as people want them.

`--flag value`, `--flag=value` and `--boolean-flag=true` all work; a bare boolean flag
never swallows the word after it. What goes wrong is one message, without a traceback.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pyproxy.errors import ConfigError

if TYPE_CHECKING:
    from pyproxy.config import Config

F = TypeVar("F", bound=Callable[..., object])
C = TypeVar("C", bound="Config")
Document = dict[str, Any]


class Duration(click.ParamType[str]):
    """A Go duration; stays a text, to be read with the rest of the configuration."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check the value and return it."""
        from pyproxy.config import Seconds, SecondsOrZero

        try:
            (SecondsOrZero if self._zero else Seconds).parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class HostPort(click.ParamType[str]):
    """`HOST:PORT`; stays a text."""

    name = "host:port"

    def __init__(self, *, zero_port: bool = False, empty: bool = False) -> None:
        self._zero_port = zero_port
        self._empty = empty

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check the value and return it."""
        from pyproxy.config import parse_address

        if value == "" and self._empty:
            return ""
        try:
            parse_address(value, zero_port=self._zero_port)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Network(click.ParamType[str]):
    """`10.0.0.0/8`; stays a text."""

    name = "cidr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check the value and return it."""
        from pyproxy.config import parse_network

        try:
            parse_network(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Number(click.ParamType[int]):
    """A whole number between two others."""

    name = "n"

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number."""
        text = str(value)
        if text.isdecimal() and self._least <= int(text) <= self._most:
            return int(text)
        wanted = f"a whole number from {self._least} to {self._most}"
        return self.fail(f"{text!r} is not {wanted}", param, ctx)


class Codes(click.ParamType[list[int]]):
    """HTTP status codes, comma separated: `200,401`."""

    name = "codes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Return the numbers."""
        words = str(value).split(",")
        if all(len(w) == 3 and w.isdecimal() and 100 <= int(w) <= 599 for w in words):
            return [int(word) for word in words]
        return self.fail(f"{value!r} is not a list of codes, 200,401", param, ctx)


class File(click.ParamType[str]):
    """The name of a file; what is wrong with it is said by what reads it."""

    name = "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete it."""
        return [CompletionItem(incomplete, type="file")]


class Folder(click.ParamType[str]):
    """The name of a directory; likewise."""

    name = "directory"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete it."""
        return [CompletionItem(incomplete, type="dir")]


class Command(click.Command):
    """A command whose boolean flags may carry a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each bare boolean flag its value before click counts words."""
        switches = {
            name
            for param in self.params
            if isinstance(param, click.Option) and param.type is click.BOOL
            for name in param.opts
        }
        args = [f"{arg}=true" if arg in switches else arg for arg in args]
        return super().parse_args(ctx, args)


def flag(name: str, text: str, kind: Any = str, **more: Any) -> Callable[[F], F]:
    """Declare an option that is None, or empty, unless it was given."""
    if kind is bool:
        # Not click's own flags, which refuse `=true`.
        more = {"metavar": "[=true|false]", **more}
        kind = click.BOOL
    return click.option(name, type=kind, help=text, **more)


def all_of(flags: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Put several flags on a command, in the order of the list."""

    def put(command: F) -> F:
        for each in reversed(flags):
            command = each(command)
        return command

    return put


def common_flags(drain: str, level: str) -> list[Callable[[Any], Any]]:
    """Declare what every mode takes; the arguments are the mode's own defaults."""
    return [
        flag("--config", "Read this YAML or JSON file; flags win.", File()),
        flag("--workers", "Threads that forward; one per CPU.", Number(1, 64)),
        flag(
            "--admin-address",
            "Health, metrics and the live page; empty = off.",
            HostPort(zero_port=True, empty=True),
        ),
        flag(
            "--handover-socket",
            "Take over from, and wait for, another process of us there.",
            File(),
        ),
        flag("--ready-file", "Is there while this process serves.", File()),
        flag(
            "--drain-timeout",
            f"Reset what lives this long after we stop accepting.  [{drain}]",
            Duration(zero=True),
        ),
        flag(
            "--shutdown-delay",
            "Go on accepting this long once /readyz is red.  [0s]",
            Duration(zero=True),
        ),
        flag(
            "--log-level",
            f"What to say on stderr.  [{level}]",
            click.Choice(["debug", "info", "warning", "error"]),
        ),
        flag("--log-format", "How to say it.  [text]", click.Choice(["text", "json"])),
    ]


COMMON_FLAGS = common_flags("30s", "info")


def read_settings(
    file: Path | None,
    flags: Document,
    overlay: Callable[[Document, Document], Document],
    kind: type[C],
) -> C:
    """Read the file, lay the flags over it, and check the whole.

    Raises:
        ConfigError: every complaint, with the file if there is one.
    """
    from pyproxy.config import convert, expanded, read_document

    document = read_document(file) if file else {}
    with named_after(file):
        return convert(overlay(expanded(document, kind), flags), kind)


@contextmanager
def named_after(file: Path | None) -> Iterator[None]:
    """Let every complaint begin with the name of the file that it is about."""
    try:
        yield
    except ConfigError as error:
        if file is None:
            raise
        raise ConfigError([f"{file}: {line}" for line in error.complaints]) from error
