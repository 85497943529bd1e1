"""Small commands beside the modes: `version`, `completion`."""

import click
from click.shell_completion import get_completion_class

from pyproxy import __version__


@click.command
def version() -> None:
    """Print the version."""
    click.echo(f"pyproxy {__version__}")


@click.command(epilog="For this shell: source <(pyproxy completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and flags."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "pyproxy", "_PYPROXY_COMPLETE").source())
