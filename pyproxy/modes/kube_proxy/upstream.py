"""KubeProxyConfiguration, the file of the kube-proxy of Kubernetes, in our words.

The same file is read as it stands in clusters: null and zero mean "not said", as in Go,
and a field that nobody knows is a warning (upstream decodes v1alpha1 leniently). What
has a meaning here becomes a setting of ours; what has none is a note, if it was set to
something that upstream would not have done anyway.
Source: k/k staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go and
pkg/proxy/apis/config/v1alpha1/defaults.go.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from pyproxy.config import Config, SecondsOrZero, convert
from pyproxy.config.complaints import struct_in
from pyproxy.errors import ConfigError
from pyproxy.modes.kube_proxy.config import HEALTHZ_PORT, METRICS_PORT, DetectLocal

GROUP, VERSION, KIND = "kubeproxy.config.k8s.io", "v1alpha1", "KubeProxyConfiguration"
Document = dict[str, Any]
Duration = SecondsOrZero
ZERO = SecondsOrZero(0)


class ClientConnection(Config, frozen=True, kw_only=True):
    """How upstream speaks with the apiserver."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0.0
    burst: int = 0


class Periods(Config, frozen=True, kw_only=True):
    """How often rules are written."""

    sync_period: Duration = ZERO
    min_sync_period: Duration = ZERO


class IPTables(Periods, frozen=True, kw_only=True):
    """Of a kernel's older packet filter."""

    masquerade_bit: int = 14
    masquerade_all: bool = False
    localhost_node_ports: bool | None = None
    snat_node_internal_ip: bool = msgspec.field(
        default=False, name="snatNodeInternalIP"
    )


class IPVS(Periods, frozen=True, kw_only=True):
    """Of a kernel's balancer."""

    scheduler: str = ""
    exclude_cidrs: tuple[str, ...] = msgspec.field(default=(), name="excludeCIDRs")
    strict_arp: bool = msgspec.field(default=False, name="strictARP")
    tcp_timeout: Duration = ZERO
    tcp_fin_timeout: Duration = ZERO
    udp_timeout: Duration = ZERO


class NFTables(Periods, frozen=True, kw_only=True):
    """Of a kernel's packet filter."""

    masquerade_bit: int = 14
    masquerade_all: bool = False


class Conntrack(Config, frozen=True, kw_only=True):
    """Of the kernel's memory of connections."""

    max_per_core: int = 32768
    min: int = 131072
    tcp_established_timeout: Duration = ZERO
    tcp_close_wait_timeout: Duration = SecondsOrZero(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = ZERO
    udp_stream_timeout: Duration = ZERO


class Logging(Config, frozen=True, kw_only=True):
    """What is said; options of its formats are not looked at."""

    format: str = ""
    verbosity: int = 0
    flush_frequency: str | int = 0
    vmodule: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class KubeProxyConfiguration(Config, frozen=True, kw_only=True):
    """The file, with the values that stand for "not said"."""

    api_version: str
    kind: str
    feature_gates: dict[str, bool] = msgspec.field(default_factory=dict)
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    bind_address: str = ""
    healthz_bind_address: str = ""
    metrics_bind_address: str = ""
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    nftables: NFTables = NFTables()
    winkernel: dict[str, Any] = msgspec.field(default_factory=dict)
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: int | None = None
    conntrack: Conntrack = Conntrack()
    config_sync_period: Duration = SecondsOrZero(15 * 60)
    port_range: str = ""
    windows_run_as_service: bool = False
    # Of files written for older versions, where kubeadm still puts it.
    udp_idle_timeout: Duration = ZERO


EXTERNAL_IPS = "AllowServiceExternalIPs"  # the one gate that means something here

# Path -> why it changes nothing here; said where it is not as upstream has it anyway.
_NO_RULES = "no such rules are written"
IGNORED = {
    "featureGates": "there are none",
    "clientConnection.acceptContentTypes": "JSON is read",
    "clientConnection.qps": "reads are not limited",
    "clientConnection.burst": "reads are not limited",
    "logging.vmodule": "see log.level",
    "enableProfiling": "there is no profiler",
    "showHiddenMetricsForVersion": "no metric is hidden",
    "mode": "--capture says how connections come here",
    "iptables.masqueradeBit": _NO_RULES,
    "iptables.snatNodeInternalIP": _NO_RULES,
    "iptables.minSyncPeriod": "changes are applied at once",
    "ipvs": _NO_RULES,
    "nftables.masqueradeBit": _NO_RULES,
    "nftables.minSyncPeriod": "changes are applied at once",
    "winkernel": "this is for Linux",
    "configSyncPeriod": "watches tell of every change",
    "conntrack.maxPerCore": "relays need no such entries",
    "conntrack.min": "relays need no such entries",
    "conntrack.tcpCloseWaitTimeout": "relays need no such entries",
    "conntrack.tcpBeLiberal": "relays need no such entries",
    "portRange": "ports are those of the Services",
    "windowsRunAsService": "this is for Linux",
    "udpIdleTimeout": "see udpTimeout",
}
# What upstream does anyway, where that is not what "not said" is.
USUAL: dict[str, tuple[object, ...]] = {
    "clientConnection.qps": (5.0,),
    "clientConnection.burst": (10,),
    "iptables.minSyncPeriod": (1.0,),
    "nftables.minSyncPeriod": (1.0,),
    "configSyncPeriod": (0.0,),
    "udpIdleTimeout": (0.25,),
    "conntrack.tcpCloseWaitTimeout": (0.0,),
}


class Translation(NamedTuple):
    """A document of ours, and what is worth saying about the one that it was."""

    document: Document
    notes: list[str]


def is_upstream(document: Mapping[str, Any]) -> bool:
    """Whether this is a file of kube-proxy rather than one of ours."""
    return "apiVersion" in document or "kind" in document


def translated(document: Mapping[str, Any]) -> Translation:
    """Read a KubeProxyConfiguration. Raise ConfigError with all that is wrong."""
    _refuse_strangers(document)
    unknown: list[str] = []
    known = _known(document, KubeProxyConfiguration, "$", unknown)
    read = convert(known, KubeProxyConfiguration)
    notes = [f"{path}: unknown field, ignored" for path in unknown]
    notes += _notes(read)
    return Translation(dict(_settings(read)), notes)


def _refuse_strangers(document: Mapping[str, Any]) -> None:
    found = []
    for field, wanted in (("apiVersion", f"{GROUP}/{VERSION}"), ("kind", KIND)):
        if document.get(field) != wanted:
            found.append(f"$.{field}: {document.get(field)!r} is not {wanted}")
    if found:
        raise ConfigError(found)


def _known(
    document: Mapping[str, Any], struct: Any, place: str, unknown: list[str]
) -> Document:
    """Return what the struct has fields for; null is not said, as in Go."""
    kinds = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    found: Document = {}
    for name, value in document.items():
        if name not in kinds:
            unknown.append(f"{place}.{name}")
        elif value is not None:
            inner = struct_in(kinds[name])
            if inner is not None and isinstance(value, Mapping):
                value = _known(value, inner, f"{place}.{name}", unknown)
            found[name] = value
    return found


def _notes(read: KubeProxyConfiguration) -> Iterator[str]:
    unsaid = KubeProxyConfiguration(api_version="", kind="")
    for path, why in IGNORED.items():
        value = _at(read, path)
        usual = (_at(unsaid, path), *USUAL.get(path, ()))
        if path == "featureGates":
            value = {k: v for k, v in value.items() if k != EXTERNAL_IPS}
        if path == "winkernel":
            value = {k: v for k, v in value.items() if v}
        if value not in usual:
            yield f"$.{path}: ignored, {why}"


def _at(struct: Any, path: str) -> Any:
    for name in path.split("."):
        names = {f.encode_name: f.name for f in msgspec.structs.fields(struct)}
        struct = getattr(struct, names[name])
    return struct


def _settings(read: KubeProxyConfiguration) -> Iterator[tuple[str, Any]]:
    """Yield the fields of ours that the file says."""
    is_v6 = _is_v6(read.bind_address)
    everywhere, here = ("[::]", "[::1]") if is_v6 else ("0.0.0.0", "127.0.0.1")
    yield (
        "healthzBindAddress",
        _address(read.healthz_bind_address or everywhere, HEALTHZ_PORT),
    )
    yield "adminAddress", _address(read.metrics_bind_address or here, METRICS_PORT)
    yield "bindAddressHardFail", read.bind_address_hard_fail
    for field, value in (
        ("hostnameOverride", read.hostname_override.strip().lower()),
        ("bindAddress", read.bind_address),
        ("detectLocalMode", read.detect_local_mode),
        ("clusterCIDR", read.cluster_cidr),
    ):
        if value:
            yield field, value
    yield (
        "detectLocal",
        {
            "bridgeInterface": read.detect_local.bridge_interface,
            "interfaceNamePrefix": read.detect_local.interface_name_prefix,
        },
    )
    yield "nodePortAddresses", _node_ports(read)
    rules = read.iptables.masquerade_all, read.nftables.masquerade_all
    yield "masqueradeAll", any(rules)
    for period in (read.nftables.sync_period, read.iptables.sync_period):
        if period:
            yield "syncPeriod", float(period)
            break
    if read.oom_score_adj is not None:
        yield "oomScoreAdj", read.oom_score_adj
    yield from _of_others(read)


def _of_others(read: KubeProxyConfiguration) -> Iterator[tuple[str, Any]]:
    """Yield what stands elsewhere with us."""
    for field, value in (
        ("udpTimeout", read.conntrack.udp_timeout),
        ("udpStreamTimeout", read.conntrack.udp_stream_timeout),
    ):
        if value:
            yield field, float(value)
    if read.client_connection.kubeconfig:
        yield "client", {"kubeconfig": read.client_connection.kubeconfig}
    if read.conntrack.tcp_established_timeout:
        idle_s = float(read.conntrack.tcp_established_timeout)
        yield "timeouts", {"tcpIdle": idle_s}
    if read.feature_gates.get(EXTERNAL_IPS):
        yield "externalIPs", True
    log: Document = {}
    if read.logging.format == "json":
        log["format"] = "json"
    if read.logging.verbosity >= VERBOSE:
        log["level"] = "debug"
    if log:
        yield "log", log


VERBOSE = 4  # of klog; from here on each change is told


def _node_ports(read: KubeProxyConfiguration) -> list[str]:
    found = list(read.node_port_addresses) or ["primary"]
    if read.iptables.localhost_node_ports and "localhost" not in found:
        found.append("localhost")
    return found


def _is_v6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False  # it is refused later, with its place


def _address(text: str, port: int) -> str:
    """Return HOST:PORT of what may be an IP alone."""
    try:
        host = str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return text
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
