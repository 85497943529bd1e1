"""`pyproxy sandbox`: everything at work on this machine, for the first look."""

import click

from pyproxy.cli.flags import Command, HostPort, Number, flag

ADDRESS = HostPort(zero_port=True)


@click.command(cls=Command)
@flag("--listen", "Where clients dial.  [127.0.0.1:6443, or any port]", ADDRESS)
@flag("--admin-address", "Of the balancer.  [127.0.0.1:9791, or any port]", ADDRESS)
@flag(
    "--bastion-port",
    "Of the bastion, 0 = any.  [8443, or any port]",
    Number(0, 65535),
)
def sandbox(
    listen: str | None, admin_address: str | None, bastion_port: int | None
) -> None:
    """Run a small cluster here, with a balancer and a bastion.

    Three servers with the balancer in front of them, and a Kubernetes API in memory
    with the bastion before it and before what is inside.
    Needs no root, no Kubernetes and no configuration. Ctrl-C ends and removes it all.
    """
    from pyproxy.runtime import launch
    from pyproxy.sandbox import Sandbox

    raise SystemExit(launch(Sandbox.run(listen, admin_address, bastion_port)))
