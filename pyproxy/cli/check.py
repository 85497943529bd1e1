"""`pyproxy check`: is a configuration right, and what does it amount to?"""

from pathlib import Path

import click

from pyproxy.cli.flags import Command, File, flag, named_after

LB, KUBECTL = "apiserver-lb", "kubectl-proxy"
MODES = click.Choice([LB, KUBECTL])


@click.command(cls=Command)
@click.argument("file", type=File())
@flag("--mode", f"Whose file it is.  [{LB}]", MODES)
def check(file: str, mode: str | None) -> None:
    """Validate a configuration and print the effective one.

    For the balancer, names are resolved and certificates are read, as at a start.
    Warnings go to stderr.
    """
    from pyproxy.config import to_yaml

    settings = _kubectl(Path(file)) if mode == KUBECTL else _balancer(Path(file))
    click.echo(to_yaml(settings), nl=False)


def _kubectl(file: Path) -> dict[str, object]:
    from pyproxy.cli.kubectl_proxy import read_config
    from pyproxy.modes.kubectl_proxy import masked

    return masked(read_config(file, {}))


def _balancer(file: Path) -> dict[str, object]:
    """Return the balancer's settings, having said what is odd about them."""
    from pyproxy.cli.apiserver_lb import read_config
    from pyproxy.config import effective, format_duration
    from pyproxy.modes import apiserver_lb
    from pyproxy.runtime import launch

    config = read_config(file, {})
    with named_after(file):
        found = launch(apiserver_lb.check(config))
    for warning in found:
        click.echo(f"pyproxy: warning: {warning}", err=True)
    for pool in config.pools:
        worst = format_duration(pool.check.worst_detection_s)
        note = f"pool {pool.name}: a hung server is noticed within {worst}"
        click.echo(f"pyproxy: {note}", err=True)
    return effective(config)
