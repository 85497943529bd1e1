"""The command line: argv and a file become one configuration, which then runs."""

import os
import sys

import click

from pyproxy import __version__
from pyproxy.cli.group import Entry, Group

__all__ = ["main", "program"]

ENTRIES = {
    "apiserver-lb": Entry(
        "pyproxy.cli.apiserver_lb",
        "apiserver_lb",
        "Balance TCP connections over API servers.",
    ),
    "apiserver-proxy": Entry(
        "pyproxy.cli.apiserver_proxy",
        "apiserver_proxy",
        "Lead users to Pods, Services and Nodes.",
    ),
    "check": Entry(
        "pyproxy.cli.check",
        "check",
        "Validate a configuration and print the effective one.",
    ),
    "completion": Entry(
        "pyproxy.cli.tools",
        "completion",
        "Print a script that completes commands and flags.",
    ),
    "kube-proxy": Entry(
        "pyproxy.cli.kube_proxy",
        "kube_proxy",
        "Serve every Service of a cluster on this node.",
    ),
    "kubectl-proxy": Entry(
        "pyproxy.cli.kubectl_proxy",
        "kubectl_proxy",
        "Serve a cluster's API at a local address.",
    ),
    "explain": Entry(
        "pyproxy.cli.explain",
        "explain",
        "Say why a Service is served as it is.",
    ),
    "sandbox": Entry(
        "pyproxy.cli.sandbox",
        "sandbox",
        "Run a small cluster here, with a balancer and a bastion.",
    ),
    "top": Entry(
        "pyproxy.cli.top",
        "top",
        "Show the table of a running mode, live.",
    ),
    "version": Entry("pyproxy.cli.tools", "version", "Print the version."),
}


@click.group(
    cls=Group,
    entries=ENTRIES,
    epilog="Documentation of each command: pyproxy COMMAND --help",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="pyproxy", message="%(prog)s %(version)s")
def program() -> None:
    """The proxies of Kubernetes in one program: four of the five, so far."""


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
