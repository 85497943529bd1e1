"""`pyproxy apiserver-lb`: its flags, and how they lie over its file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyproxy.cli.flags import (
    COMMON_FLAGS,
    Codes,
    Command,
    Document,
    Duration,
    File,
    HostPort,
    Network,
    Number,
    all_of,
    flag,
    read_settings,
)
from pyproxy.errors import ConfigError

if TYPE_CHECKING:
    from pyproxy.modes.apiserver_lb import ApiserverLb

# As in the configuration, which is not imported for its words alone; a test compares.
BALANCE = ("random", "two-choices", "least", "round-robin", "ring")
ON_ALL_DOWN = ("try", "refuse")
CHECK_TYPE = ("https", "http", "tcp")
COUNT = Number(0, 2**31 - 1)
RUNS = Number(1, 100)

# flag -> field of each pool's check
CHECK = {
    "check": "type",
    "check_path": "path",
    "check_ca": "ca",
    "check_pin": "pins",
    "check_insecure": "insecure",
    "check_server_name": "serverName",
    "check_client_certificate": "clientCertificate",
    "check_client_key": "clientKey",
    "check_token_file": "tokenFile",
    "check_interval": "interval",
    "check_fast_interval": "fastInterval",
    "check_down_interval": "downInterval",
    "check_timeout": "timeout",
    "check_suspect_after": "suspectAfter",
    "rise": "rise",
    "fall": "fall",
}
TRUST = {"ca", "pins", "insecure"}  # one of them on the command line replaces all
TIMEOUTS = {
    "connect_timeout": "connect",
    "idle_timeout": "tcpIdle",
    "drain_timeout": "drain",
    "shutdown_delay": "shutdownDelay",
    "slow_start": "slowStart",
}
LIMITS = {
    "max_connections": "maxConnections",
    "max_connections_per_source": "maxConnectionsPerSource",
    "max_new_per_second": "maxNewPerSecond",
    "max_new_per_second_per_source": "maxNewPerSecondPerSource",
}
LOG = {"log_level": "level", "log_format": "format"}
TOP = {
    "workers": "workers",
    "admin_address": "adminAddress",
    "handover_socket": "handoverSocket",
    "ready_file": "readyFile",
    "state_file": "stateFile",
    "discover": "discover",
}
CLIENT = {"kubeconfig": "kubeconfig", "context": "context"}


EXAMPLE = """\b
Example:
  pyproxy apiserver-lb --listen 127.0.0.1:6443 --check-ca ca.crt \\
    --server 10.0.0.1:6443 --server 10.0.0.2:6443 --server 10.0.0.3:6443
"""

FLAGS = [
    flag(
        "--listen",
        "Where clients dial; repeatable.",
        HostPort(zero_port=True),
        multiple=True,
    ),
    flag("--server", "An apiserver; repeatable.", HostPort(), multiple=True),
    flag(
        "--balance",
        "How to choose; ring: one client address means one server.  [least]",
        click.Choice(BALANCE),
    ),
    flag(
        "--on-all-down",
        "No server is ready: try them all the same, or refuse.  [try]",
        click.Choice(ON_ALL_DOWN),
    ),
    flag("--check", "How to ask a server.  [https]", click.Choice(CHECK_TYPE)),
    flag("--check-path", "What to ask for.  [/readyz]"),
    flag("--check-expect", "Codes that mean ready.  [200]", Codes(), multiple=True),
    flag("--check-ca", "PEM file: CAs for the server's certificate.", File()),
    flag("--check-pin", "SHA-256 of its certificate; repeatable.", multiple=True),
    flag("--check-insecure", "Trust any certificate.", bool),
    flag("--check-server-name", "Name for SNI and verification.  [the server's host]"),
    flag("--check-client-certificate", "PEM file: our client certificate.", File()),
    flag("--check-client-key", "PEM file: its key.", File()),
    flag("--check-token-file", "Bearer token; read again at each probe.", File()),
    flag("--check-interval", "Between probes.  [1s]", Duration()),
    flag("--check-fast-interval", "While a change is coming.  [500ms]", Duration()),
    flag("--check-down-interval", "Of a dead server.  [2s]", Duration()),
    flag("--check-timeout", "For all of one probe.  [2s]", Duration()),
    flag("--check-suspect-after", "No answer: others serve.  [750ms]", Duration()),
    flag("--rise", "Good probes in a row until ready.  [2]", RUNS),
    flag("--fall", "Bad probes in a row until not.  [3]", RUNS),
    flag("--connect-timeout", "Per server tried.  [5s]", Duration()),
    flag("--idle-timeout", "No byte in either direction.  [1h]", Duration()),
    flag(
        "--slow-start",
        "Ramp of a server that came back; 0 = off.  [30s]",
        Duration(zero=True),
    ),
    flag("--max-connections", "Per listener; 0 = no limit.  [0]", COUNT),
    flag("--max-connections-per-source", "Of one client address.  [0]", COUNT),
    flag("--max-new-per-second", "Per listener.  [0]", COUNT),
    flag("--max-new-per-second-per-source", "Of one client address.  [0]", COUNT),
    flag(
        "--proxy-protocol-from",
        "Network whose connections begin with a PROXY header; repeatable.",
        Network(),
        multiple=True,
    ),
    flag("--discover", "Follow apiservers that announce themselves.  [false]", bool),
    flag("--kubeconfig", "To read of them: who we are.", File()),
    flag("--context", "Of the kubeconfig."),
    flag(
        "--state-file",
        "Remember here, for a restart, which servers are ready.",
        File(),
    ),
]


@click.command("apiserver-lb", cls=Command, epilog=EXAMPLE)
@all_of(FLAGS)
@all_of(COMMON_FLAGS)
def apiserver_lb(config: str | None, **flags: Any) -> None:
    """Balance TCP connections over API servers.

    Each of them is asked, again and again, whether it is ready.
    An https check needs something to trust: a CA, a pin, or anything (insecure).
    """
    # Here, as in every command: `--help` and TAB need none of it.
    from pyproxy.cli.serving import serve
    from pyproxy.modes.apiserver_lb import MODE, run

    file = Path(config) if config else None
    serve(file, partial(read_config, file, flags), MODE, run)


def read_config(file: Path | None, flags: Document) -> "ApiserverLb":
    """Read the file, lay the flags over it, and check the whole."""
    from pyproxy.modes.apiserver_lb import ApiserverLb

    return read_settings(file, flags, overlay, ApiserverLb)


def overlay(document: Document, flags: Document) -> Document:
    """Lay flags over a document; what is malformed stays so, for `convert` to say.

    Servers and listeners on the command line replace those of the file.
    """
    given = {k: v for k, v in flags.items() if v is not None and v != ()}
    document = dict(document)
    _put(document, given, TOP)
    for name, fields in (
        ("timeouts", TIMEOUTS),
        ("log", LOG),
        ("client", CLIENT),
    ):
        if given.keys() & fields.keys():
            document[name] = _laid(document.get(name, {}), given, fields)
    pools = document.get("pools", [{}] if "server" in given else [])
    if "server" in given and isinstance(pools, list) and len(pools) > 1:
        raise ConfigError("--server: the file has several pools, write servers there")
    document["pools"] = _each(pools, lambda pool: _pool(pool, given))
    listeners = document.get("listeners", [])
    if "listen" in given:
        listeners = [{"address": address} for address in given["listen"]]
    if given.keys() & {*LIMITS, "proxy_protocol_from"}:
        listeners = _each(listeners, lambda each: _listener(each, given))
    document["listeners"] = listeners
    return document


def _pool(pool: Document, given: Document) -> Document:
    pool = dict(pool)
    if "server" in given:
        pool["servers"] = [{"address": address} for address in given["server"]]
    _put(pool, given, {"balance": "balance", "on_all_down": "onAllDown"})
    check = pool.setdefault("check", {})
    if isinstance(check, dict):
        pool["check"] = _check(check, given)
    return pool


def _check(check: Document, given: Document) -> Document:
    if any(CHECK[name] in TRUST for name in given.keys() & CHECK.keys()):
        check = {name: value for name, value in check.items() if name not in TRUST}
    check = dict(check)
    _put(check, given, CHECK)
    if "check_expect" in given:
        check["expect"] = [code for codes in given["check_expect"] for code in codes]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in check.items()}


def _listener(listener: Document, given: Document) -> Document:
    listener = dict(listener)
    if given.keys() & LIMITS.keys():
        listener["limits"] = _laid(listener.get("limits", {}), given, LIMITS)
    if "proxy_protocol_from" in given:
        listener["proxyProtocolFrom"] = list(given["proxy_protocol_from"])
    return listener


def _laid(under: Any, given: Document, fields: dict[str, str]) -> Any:
    if isinstance(under, dict):
        under = dict(under)
        _put(under, given, fields)
    return under


def _put(into: Document, given: Document, fields: dict[str, str]) -> None:
    into.update({fields[name]: given[name] for name in given.keys() & fields.keys()})


def _each(items: Any, change: Any) -> Any:
    if not isinstance(items, list):
        return items
    return [change(item) if isinstance(item, dict) else item for item in items]
