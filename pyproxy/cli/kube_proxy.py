"""`pyproxy kube-proxy`: flags of the kube-proxy of Kubernetes, and ours."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyproxy.cli.flags import (
    COMMON_FLAGS,
    Command,
    Document,
    Duration,
    File,
    HostPort,
    Number,
    all_of,
    flag,
    named_after,
)

if TYPE_CHECKING:
    from pyproxy.modes.kube_proxy import KubeProxy

EXAMPLE = """\b
Example:
  pyproxy kube-proxy --kubeconfig /var/lib/kube-proxy/kubeconfig.conf \\
    --cluster-cidr 10.244.0.0/16
  pyproxy kube-proxy --config /var/lib/kube-proxy/config.conf
The second file is the one that kube-proxy has now.
"""
ANY_PORT = HostPort(zero_port=True, empty=True)
DETECTION = click.Choice(
    ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]
)


class Verbosity(click.ParamType[int]):
    """A number as klog takes it: `-v 4`, `-v=4`, `--v=4`."""

    name = "n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number."""
        text = str(value).removeprefix("=")  # `-v=4`, of which click leaves that
        return Number(0, 100).convert(text, param, ctx)


NODE = [
    flag("--kubeconfig", "How to reach the apiserver.  [as a Pod does]", File()),
    flag("--master", "URL of the apiserver, instead of the kubeconfig's."),
    flag("--context", "Context of the kubeconfig.  [the current one]"),
    flag("--hostname-override", "Name of the own Node.  [the host's name]"),
    flag("--bind-address", "The node's primary IP.  [as the Node says]"),
    flag("--healthz-bind-address", "/healthz, /livez.  [0.0.0.0:10256]", ANY_PORT),
    flag("--metrics-bind-address", "Same as --admin-address.", ANY_PORT),
    flag("--bind-address-hard-fail", "End when a port is taken.  [false]", bool),
    flag(
        "--oom-score-adj", "0 to stay as we are.  [-999]", click.IntRange(-1000, 1000)
    ),
]
TRAFFIC = [
    flag("--detect-local-mode", "How pods are known.  [ClusterCIDR]", DETECTION),
    flag("--cluster-cidr", "Networks of pods, one a family."),
    flag("--pod-bridge-interface", "For BridgeInterface."),
    flag("--pod-interface-name-prefix", "For InterfaceNamePrefix."),
    flag(
        "--nodeport-addresses",
        "Network, primary, localhost or all; repeatable.  [primary]",
        multiple=True,
    ),
    flag("--masquerade-all", "Endpoints see the node, not the pod.  [false]", bool),
    flag("--iptables-localhost-nodeports", "Add localhost to the above.", bool),
    flag("--capture", "How connections come here.  [auto]",
         click.Choice(["auto", "tproxy", "bind"])),
    flag("--path", "Bytes of plain Services: through us or past us.  [relay]",
         click.Choice(["relay", "direct"])),
    flag("--service-proxy-name", "Serve Services with this label only."),
    flag("--conntrack-udp-timeout", "UDP without answer.  [30s]", Duration(zero=True)),
    flag("--conntrack-udp-timeout-stream", "With answers.  [3m]", Duration(zero=True)),
    flag("--conntrack-tcp-timeout-established", "Idle TCP.  [24h]",
         Duration(zero=True)),
    flag("--external-ips", "Serve externalIPs of Services.  [false]", bool),
    flag("--iptables-sync-period", "/healthz is red after twice that.  [30s]",
         Duration()),
]  # fmt: skip
ONCE = [
    flag("--cleanup", "Remove what we installed on this machine, and end.", bool),
    flag("--init-only", "Accepted: nothing is to be prepared; ends at once.", bool),
    flag("--write-config-to", "Write the settings to this file, and end.", File()),
]
# Accepted, so that a command line of kube-proxy works as it is; each is one warning.
IGNORED = {
    "--proxy-mode": "see --capture",
    "--feature-gates": "there are none",
    "--kube-api-content-type": "JSON is read",
    "--kube-api-burst": "reads are not limited",
    "--kube-api-qps": "reads are not limited",
    "--profiling": "there is no profiler",
    "--show-hidden-metrics-for-version": "no metric is hidden",
    "--iptables-masquerade-bit": "no such rules are written",
    "--iptables-min-sync-period": "changes are applied at once",
    "--ipvs-sync-period": "no such rules are written",
    "--ipvs-min-sync-period": "no such rules are written",
    "--ipvs-scheduler": "no such rules are written",
    "--ipvs-exclude-cidrs": "no such rules are written",
    "--ipvs-strict-arp": "no such rules are written",
    "--ipvs-tcp-timeout": "no such rules are written",
    "--ipvs-tcpfin-timeout": "no such rules are written",
    "--ipvs-udp-timeout": "no such rules are written",
    "--conntrack-max-per-core": "relays need no such entries",
    "--conntrack-min": "relays need no such entries",
    "--conntrack-tcp-timeout-close-wait": "relays need no such entries",
    "--conntrack-tcp-be-liberal": "relays need no such entries",
    "--config-sync-period": "watches tell of every change",
    "--log-flush-frequency": "the log is not buffered",
    "--log-json-info-buffer-size": "the log is not buffered",
    "--log-json-split-stream": "the log is stderr",
    "--log-text-info-buffer-size": "the log is not buffered",
    "--log-text-split-stream": "the log is stderr",
    "--vmodule": "see --log-level",
}
SWITCHES = (
    "--profiling",
    "--ipvs-strict-arp",
    "--conntrack-tcp-be-liberal",
    "--log-json-split-stream",
    "--log-text-split-stream",
)
OLD = [
    click.option("-v", "--v", type=Verbosity(), help="4: as --log-level=debug."),
    flag("--logging-format", "Same as --log-format.", click.Choice(["text", "json"])),
    flag("--healthz-port", "Port of --healthz-bind-address; 0 = off.",
         Number(0, 65535)),
    flag("--metrics-port", "Port of --metrics-bind-address; 0 = off.",
         Number(0, 65535)),
    *(
        flag(name, why, bool if name in SWITCHES else str, hidden=True)
        for name, why in IGNORED.items()
    ),
]  # fmt: skip

# flag -> field, at the top and below
TOP = {
    "workers": "workers",
    "admin_address": "adminAddress",
    "handover_socket": "handoverSocket",
    "ready_file": "readyFile",
    "healthz_bind_address": "healthzBindAddress",
    "bind_address_hard_fail": "bindAddressHardFail",
    "hostname_override": "hostnameOverride",
    "bind_address": "bindAddress",
    "oom_score_adj": "oomScoreAdj",
    "detect_local_mode": "detectLocalMode",
    "cluster_cidr": "clusterCIDR",
    "nodeport_addresses": "nodePortAddresses",
    "external_ips": "externalIPs",
    "masquerade_all": "masqueradeAll",
    "iptables_sync_period": "syncPeriod",
    "capture": "capture",
    "path": "path",
    "service_proxy_name": "serviceProxyName",
    "conntrack_udp_timeout": "udpTimeout",
    "conntrack_udp_timeout_stream": "udpStreamTimeout",
}
NESTED = {
    "detectLocal": {
        "pod_bridge_interface": "bridgeInterface",
        "pod_interface_name_prefix": "interfaceNamePrefix",
    },
    "client": {"kubeconfig": "kubeconfig", "master": "server", "context": "context"},
    "timeouts": {
        "drain_timeout": "drain",
        "shutdown_delay": "shutdownDelay",
        "conntrack_tcp_timeout_established": "tcpIdle",
    },
    "log": {"log_level": "level", "log_format": "format"},
}
OFF_IF_ZERO = (
    "conntrack_udp_timeout",
    "conntrack_udp_timeout_stream",
    "conntrack_tcp_timeout_established",
)
VERBOSE = 4  # of klog; from here on each change is told


@click.command("kube-proxy", cls=Command, epilog=EXAMPLE)
@all_of(NODE)
@all_of(TRAFFIC)
@all_of(COMMON_FLAGS)
@all_of(ONCE)
@all_of(OLD)
def kube_proxy(config: str | None, **flags: Any) -> None:
    """Serve every Service of a cluster on this node.

    Takes the flags and the file of the kube-proxy of Kubernetes.
    Flags win over the file, ours included.
    """
    # Here, as in every command: `--help` and TAB need none of it.
    from pyproxy.cli.serving import serve
    from pyproxy.modes.kube_proxy.service import cleanup, run

    file = Path(config) if config else None
    once = {name: flags.pop(name) for name in ("cleanup", "init_only")}
    goal = flags.pop("write_config_to")
    reader = Reader(file, flags)
    if once["init_only"]:
        click.echo("pyproxy: nothing is to be prepared", err=True)
    elif goal:
        _write(reader.read(), Path(goal))
    elif once["cleanup"]:
        for line in cleanup(reader.read()):
            click.echo(f"pyproxy: {line}", err=True)
    else:
        from pyproxy.modes.kube_proxy import MODE

        serve(file, reader.read, MODE, run(lambda: reader.notes, config))


class Reader:
    """Reads a file of either kind, lays the flags over it, and keeps what to say."""

    def __init__(self, file: Path | None, flags: Document) -> None:
        self._file, self._flags = file, flags
        self.notes: list[str] = []  # about what was read last

    def read(self) -> "KubeProxy":
        """Return the settings. Raise ConfigError with all that is wrong."""
        from pyproxy.config import convert, expanded, read_document
        from pyproxy.modes.kube_proxy import KubeProxy
        from pyproxy.modes.kube_proxy.upstream import is_upstream, translated

        document = read_document(self._file) if self._file else {}
        notes: list[str] = []
        with named_after(self._file):
            if is_upstream(document):
                document, said = translated(document)
                notes += [f"{self._file}: {each}" for each in said]
            laid = overlay(expanded(document, KubeProxy), self._flags)
            settings = convert(laid, KubeProxy)
        self.notes = notes + ignored(self._flags)
        return settings


def ignored(flags: Document) -> list[str]:
    """Return what to say of flags that change nothing here."""
    return [
        f"{name}: ignored, {why}"
        for name, why in IGNORED.items()
        if flags.get(name[2:].replace("-", "_")) is not None
    ]


def overlay(document: Document, flags: Document) -> Document:
    """Lay flags over a document; what is malformed stays so, for `convert` to say."""
    given = {k: v for k, v in flags.items() if v is not None and v != ()}
    _rename(given)
    document = {**document, **_renamed(given, TOP)}
    if given.get("iptables_localhost_nodeports"):
        places = list(document.get("nodePortAddresses", ["primary"]))
        document["nodePortAddresses"] = list(dict.fromkeys([*places, "localhost"]))
    for field, fields in NESTED.items():
        said = _renamed(given, fields)
        under = document.get(field, {})
        if said and isinstance(under, dict):
            document[field] = {**under, **said}
    return document


def _rename(given: Document) -> None:
    """Bring older names of flags to the newer ones, which win."""
    if "metrics_bind_address" in given:
        given.setdefault("admin_address", given["metrics_bind_address"])
    for old, new, host in (
        ("healthz_port", "healthz_bind_address", "0.0.0.0"),
        ("metrics_port", "admin_address", "127.0.0.1"),
    ):
        if old in given:
            given.setdefault(new, f"{host}:{given[old]}" if given[old] else "")
    if given.get("v", 0) >= VERBOSE:
        given.setdefault("log_level", "debug")
    if "logging_format" in given:
        given.setdefault("log_format", given["logging_format"])
    if "nodeport_addresses" in given:
        texts = given["nodeport_addresses"]
        words = [word.strip() for text in texts for word in text.split(",")]
        given["nodeport_addresses"] = [word for word in words if word]
    for name in OFF_IF_ZERO:
        if given.get(name) in ("0", "0s"):  # leave it as it is
            del given[name]
    if "hostname_override" in given:
        given["hostname_override"] = given["hostname_override"].strip().lower()


def _renamed(given: Document, fields: dict[str, str]) -> Document:
    return {field: given[name] for name, field in fields.items() if name in given}


def _write(settings: "KubeProxy", goal: Path) -> None:
    from pyproxy.config import effective, to_yaml
    from pyproxy.errors import StartError

    try:
        goal.write_text(to_yaml(effective(settings)))
    except OSError as error:
        raise StartError(f"cannot write {goal}: {error.strerror}") from error
