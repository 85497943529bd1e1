"""Commands beside the modes: `check`, `version`, `completion`."""

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from pyproxy import __version__
from pyproxy.cli.apiserver_lb import read_config
from pyproxy.cli.flags import Command
from pyproxy.config import format_duration, to_yaml
from pyproxy.modes.apiserver_lb import check as check_apiserver_lb
from pyproxy.runtime import launch


@click.command(cls=Command)
@click.argument("file", type=click.Path())
def check(file: str) -> None:
    """Validate a configuration and print the effective one.

    Names are resolved and certificates are read, as at a start. Warnings go to stderr.
    """
    config = read_config(Path(file), {})
    for warning in launch(check_apiserver_lb(config)):
        click.echo(f"pyproxy: warning: {warning}", err=True)
    for pool in config.pools:
        worst = format_duration(pool.check.worst_detection_s)
        note = f"pool {pool.name}: a hung server is noticed within {worst}"
        click.echo(f"pyproxy: {note}", err=True)
    click.echo(to_yaml(config), nl=False)


@click.command(cls=Command)
def version() -> None:
    """Print the version."""
    click.echo(f"pyproxy {__version__}")


@click.command(cls=Command, epilog="For this shell: source <(pyproxy completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and flags."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "pyproxy", "_PYPROXY_COMPLETE").source())
