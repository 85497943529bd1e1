"""`pyproxy check`: is a configuration right, and what does it amount to?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyproxy.cli.flags import Command, File, flag, named_after

if TYPE_CHECKING:
    from pyproxy.config import Config

LB, BASTION, KUBECTL = "apiserver-lb", "apiserver-proxy", "kubectl-proxy"
NODE = "kube-proxy"
MODES = click.Choice([LB, BASTION, NODE, KUBECTL])

HEADING = [
    "# For `pyproxy MODE --config FILE`; `pyproxy check FILE` says what is wrong.",
    "# A name right behind a # is a default: to change it, take the # away.",
]
NOTE = ["# Name your servers, and instead of `insecure` the `ca` that signs for them."]
# What no default can know; the rest of the example is defaults.
NEEDED: dict[str, Any] = {
    "listeners": [{"address": "127.0.0.1:6443"}],
    "pools": [
        {
            "servers": ["10.0.0.11:6443", "10.0.0.12:6443", "10.0.0.13:6443"],
            "check": {"insecure": True},
        }
    ],
}


@click.command(cls=Command)
@click.argument("file", type=File(), required=False)
@flag("--mode", f"Whose file it is.  [{LB}]", MODES)
@flag("--example", "Print a file to start from, with every default.", MODES)
@flag("--schema", "Print the JSON Schema of this mode's files.", MODES)
def check(
    file: str | None, mode: str | None, example: str | None, schema: str | None
) -> None:
    """Validate a configuration and print the effective one.

    For the balancer, names are resolved and certificates are read, as at a start.
    Warnings go to stderr.
    """
    asked = [what for what in (file, example, schema) if what is not None]
    if len(asked) != 1:
        raise click.UsageError("give one of FILE, --example MODE and --schema MODE")
    if example is not None:
        click.echo(_example(example), nl=False)
    elif schema is not None:
        click.echo(_schema(schema))
    else:
        _check(str(file), mode)


def _check(file: str, mode: str | None) -> None:
    from pyproxy.config import to_yaml

    readers = {KUBECTL: _kubectl, BASTION: _bastion, NODE: _node}
    settings = readers.get(mode or _mode_of(Path(file)), _balancer)(Path(file))
    click.echo(to_yaml(settings), nl=False)


def _mode_of(file: Path) -> str:
    """Return whose file it is, as far as it says so itself."""
    from pyproxy.config import read_document
    from pyproxy.modes.kube_proxy.upstream import is_upstream

    return NODE if is_upstream(read_document(file)) else LB


def _example(mode: str) -> str:
    from pyproxy.config.example import example_of

    needed = NEEDED if mode == LB else {}
    return example_of(_struct_of(mode), needed, HEADING + (NOTE if needed else []))


def _schema(mode: str) -> str:
    from pyproxy.config.schema import schema_of

    return json.dumps(schema_of(_struct_of(mode), f"pyproxy {mode}"), indent=2)


def _struct_of(mode: str) -> "type[Config]":
    from pyproxy.modes import apiserver_lb, apiserver_proxy, kube_proxy, kubectl_proxy

    structs: dict[str, type[Config]] = {
        LB: apiserver_lb.ApiserverLb,
        BASTION: apiserver_proxy.ApiserverProxy,
        NODE: kube_proxy.KubeProxy,
        KUBECTL: kubectl_proxy.KubectlProxy,
    }
    return structs[mode]


def _bastion(file: Path) -> dict[str, object]:
    from pyproxy.cli.apiserver_proxy import read_config
    from pyproxy.config import masked

    return masked(read_config(file, {}))


def _node(file: Path) -> dict[str, object]:
    """Return a kube-proxy's settings, having said what has no meaning here."""
    from pyproxy.cli.kube_proxy import Reader
    from pyproxy.config import masked
    from pyproxy.modes.kube_proxy import warnings

    reader = Reader(file, {})
    settings = reader.read()
    for warning in [*reader.notes, *warnings(settings)]:
        click.echo(f"pyproxy: warning: {warning}", err=True)
    return masked(settings)


def _kubectl(file: Path) -> dict[str, object]:
    from pyproxy.cli.kubectl_proxy import read_config
    from pyproxy.config import masked

    return masked(read_config(file, {}))


def _balancer(file: Path) -> dict[str, object]:
    """Return the balancer's settings, having said what is odd about them."""
    from pyproxy.cli.apiserver_lb import read_config
    from pyproxy.config import format_duration, masked
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
    return masked(config)
