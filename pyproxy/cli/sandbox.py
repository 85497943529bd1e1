"""`pyproxy sandbox`: everything at work on this machine, for the first look."""

import click

from pyproxy.cli.flags import Command, HostPort, flag

ADDRESS = HostPort(zero_port=True)


@click.command(cls=Command)
@flag("--listen", "Where clients dial.  [127.0.0.1:6443, or any port]", ADDRESS)
@flag("--admin-address", "Of the balancer.  [127.0.0.1:9791, or any port]", ADDRESS)
def sandbox(listen: str | None, admin_address: str | None) -> None:
    """Run a small cluster here, with a balancer.

    Three servers with the balancer in front of them, and a Kubernetes API in memory.
    Needs no root, no Kubernetes and no configuration. Ctrl-C ends and removes it all.
    """
    from pyproxy.runtime import launch
    from pyproxy.sandbox import Sandbox

    raise SystemExit(launch(Sandbox.run(listen, admin_address)))
