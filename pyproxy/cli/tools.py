"""Commands beside the modes: `check`, `version`, `completion`."""

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from pyproxy import __version__
from pyproxy.cli.apiserver_lb import read_config as read_apiserver_lb
from pyproxy.cli.flags import Command, flag
from pyproxy.cli.kubectl_proxy import read_config as read_kubectl_proxy
from pyproxy.config import effective, format_duration, to_yaml
from pyproxy.modes import apiserver_lb, kubectl_proxy
from pyproxy.runtime import launch

MODES = click.Choice([apiserver_lb.MODE, kubectl_proxy.MODE])


@click.command(cls=Command)
@click.argument("file", type=click.Path())
@flag("--mode", f"Whose file it is.  [{apiserver_lb.MODE}]", MODES)
def check(file: str, mode: str | None) -> None:
    """Validate a configuration and print the effective one.

    For the balancer, names are resolved and certificates are read, as at a start.
    Warnings go to stderr.
    """
    if mode == kubectl_proxy.MODE:
        settings = kubectl_proxy.masked(read_kubectl_proxy(Path(file), {}))
    else:
        settings = _checked(Path(file))
    click.echo(to_yaml(settings), nl=False)


def _checked(file: Path) -> dict[str, object]:
    """Return the balancer's settings, having said what is odd about them."""
    config = read_apiserver_lb(file, {})
    for warning in launch(apiserver_lb.check(config)):
        click.echo(f"pyproxy: warning: {warning}", err=True)
    for pool in config.pools:
        worst = format_duration(pool.check.worst_detection_s)
        note = f"pool {pool.name}: a hung server is noticed within {worst}"
        click.echo(f"pyproxy: {note}", err=True)
    return effective(config)


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
