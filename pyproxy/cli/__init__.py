"""The command line: argv and a file become one configuration, which then runs."""

import click

from pyproxy.cli.apiserver_lb import apiserver_lb
from pyproxy.cli.flags import Group
from pyproxy.cli.sandbox import sandbox
from pyproxy.cli.tools import check, completion, version
from pyproxy.cli.top import top

__all__ = ["main", "program"]


@click.group(
    cls=Group,
    epilog="Documentation of each command: pyproxy COMMAND --help",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def program() -> None:
    """The five proxies of Kubernetes in one program."""


for _command in (apiserver_lb, sandbox, check, top, version, completion):
    program.add_command(_command)


def main() -> None:
    """Run the program with the arguments of this process, and exit."""
    program.main(prog_name="pyproxy")
