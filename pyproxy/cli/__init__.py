"""The command line: argv and a file become one configuration, which then runs."""

import os
import sys

import click

from pyproxy.cli.apiserver_lb import apiserver_lb
from pyproxy.cli.flags import Group
from pyproxy.cli.kubectl_proxy import kubectl_proxy
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
    """The proxies of Kubernetes in one program: two of the five, so far."""


for _command in (apiserver_lb, kubectl_proxy, sandbox, check, top, version, completion):
    program.add_command(_command)


def main() -> None:
    """Run the program with the arguments of this process, and exit."""
    try:
        program.main(prog_name="pyproxy")
    finally:
        _let_go_of_output()


def _let_go_of_output() -> None:
    """Flush what can be flushed.

    Python does so once more at exit, and where the reader has gone it would turn our
    exit code into 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
