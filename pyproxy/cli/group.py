"""Commands that are imported when they are used, and not before.

TAB and `--help` wait for every import; a mode brings asyncio, TLS, HTTP and metrics
with it, which neither needs.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from pyproxy.errors import PyproxyError


class Entry(NamedTuple):
    """Where a command is, and what `--help` of the program says of it."""

    module: str
    attribute: str
    text: str


class Group(click.Group):
    """Lists commands without importing them.

    Ends with the exit code of our own errors, and their message alone.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **more: Any) -> None:
        """`entries` are in the order in which help shows them."""
        super().__init__(*args, **more)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is no such one."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word means."""
        name = args[0]
        is_word = name not in self.entries and not name.startswith("-")
        if is_word and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, self.entries, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write what each command is for."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, e.text) for name, e in self.entries.items()])

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem]:
        """Complete names of commands, and options."""
        found = [
            CompletionItem(name, help=entry.text)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PyproxyError as error:
            for line in str(error).splitlines():
                click.echo(f"pyproxy: {line}", err=True)
            ctx.exit(error.exit_code)
