"""Settings of kube-proxy: its own file and flags, upstream's, and what is said."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pyproxy.cli import program
from pyproxy.cli.kube_proxy import IGNORED, Reader, kube_proxy
from pyproxy.config import convert
from pyproxy.errors import ConfigError
from pyproxy.modes.kube_proxy import KubeProxy, warnings
from pyproxy.modes.kube_proxy.upstream import translated

KUBEADM = Path(__file__).with_name("kubeadm.yaml")
HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def reader(*arguments: str) -> Reader:
    """What reads these arguments."""
    with kube_proxy.make_context("kube-proxy", list(arguments)) as context:
        flags: dict[str, Any] = dict(context.params)
    file = flags.pop("config")
    for name in ("cleanup", "init_only", "write_config_to"):
        del flags[name]
    return Reader(Path(file) if file else None, flags)


def parse(*arguments: str) -> KubeProxy:
    """The configuration that these arguments make."""
    return reader(*arguments).read()


def upstream(text: str) -> tuple[KubeProxy, list[str]]:
    """Settings and notes of a file of upstream with these lines."""
    document, notes = translated(yaml.safe_load(HEAD + text))
    return convert(document, KubeProxy), notes


def test_defaults_are_those_of_kube_proxy() -> None:
    # Source: k/k pkg/proxy/apis/config/v1alpha1/defaults.go, and nftables' primary.
    config = parse()
    assert config.healthz_bind_address == "0.0.0.0:10256"
    assert config.admin_address == "127.0.0.1:10249"
    assert config.node_port_addresses == ("primary",)
    assert config.oom_score_adj == -999
    assert (config.capture, config.path) == ("auto", "relay")
    assert config.health_timeout_s == 60.0
    assert not config.bind_address_hard_fail


def test_file_of_kubeadm_is_taken_as_it_is_without_a_word() -> None:
    read = reader(f"--config={KUBEADM}")
    config = read.read()
    assert read.notes == []
    same = parse(
        "--cluster-cidr=10.244.0.0/16",
        "--kubeconfig=/var/lib/kube-proxy/kubeconfig.conf",
    )
    assert config == same


def test_every_field_of_upstream_that_means_something_is_honoured() -> None:
    config, notes = upstream(
        """
clientConnection: {kubeconfig: /kc}
logging: {format: json, verbosity: 5}
hostnameOverride: " Node-7 "
bindAddress: "fd00::7"
bindAddressHardFail: true
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: cni0}
nodePortAddresses: [primary, 10.0.0.0/8]
iptables: {masqueradeAll: true, localhostNodePorts: true, syncPeriod: 1m}
conntrack: {udpTimeout: 10s, udpStreamTimeout: 2m, tcpEstablishedTimeout: 2h}
featureGates: {AllowServiceExternalIPs: true}
oomScoreAdj: -5
"""
    )
    assert notes == []
    assert config.client.kubeconfig == "/kc"
    assert (config.log.format, config.log.level) == ("json", "debug")
    assert config.node_name == "node-7"
    assert config.bind_address == "fd00::7"
    # IPv6 primary: both defaults are of that family.
    assert config.healthz_bind_address == "[::]:10256"
    assert config.admin_address == "[::1]:10249"
    assert config.bind_address_hard_fail
    assert config.detect_local.bridge_interface == "cni0"
    assert config.node_port_addresses == ("primary", "10.0.0.0/8", "localhost")
    assert config.masquerade_all
    assert config.health_timeout_s == 120.0
    assert (float(config.udp_timeout), float(config.udp_stream_timeout)) == (10, 120)
    assert config.oom_score_adj == -5
    assert config.external_ips
    assert float(config.timeouts.tcp_idle) == 7200


@pytest.mark.parametrize(
    ("address", "field", "became"),
    [
        ("10.0.0.1", "healthzBindAddress", "10.0.0.1:10256"),
        ("10.0.0.1:1", "healthzBindAddress", "10.0.0.1:1"),
        ("::1", "metricsBindAddress", "[::1]:10249"),
        ("[::1]:7", "metricsBindAddress", "[::1]:7"),
    ],
)
def test_port_is_added_where_upstream_adds_it(
    address: str, field: str, became: str
) -> None:
    config, _ = upstream(f'{field}: "{address}"')
    assert became in (config.healthz_bind_address, config.admin_address)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("mode: ipvs", "$.mode: ignored, --capture says"),
        ("ipvs: {scheduler: rr}", "$.ipvs: ignored"),
        ("winkernel: {enableDSR: true}", "$.winkernel: ignored"),
        ("portRange: 1-2", "$.portRange: ignored"),
        ("windowsRunAsService: true", "$.windowsRunAsService: ignored"),
        ("iptables: {masqueradeBit: 15}", "$.iptables.masqueradeBit: ignored"),
        ("conntrack: {maxPerCore: 1}", "$.conntrack.maxPerCore: ignored"),
        ("featureGates: {Some: true}", "$.featureGates: ignored, there are none"),
        ("enableProfiling: true", "$.enableProfiling: ignored"),
        ("clientConnection: {qps: 50}", "$.clientConnection.qps: ignored"),
        # v1alpha1 is decoded leniently: a warning, and the rest counts.
        ("detectLocl: ipvs", "$.detectLocl: unknown field, ignored"),
        ("iptables: {masqueradeAl: true}", "$.iptables.masqueradeAl: unknown field"),
    ],
)
def test_what_has_no_meaning_here_is_one_note(text: str, note: str) -> None:
    _, notes = upstream(text)
    (said,) = notes
    assert said.startswith(note)


@pytest.mark.parametrize(
    "text",
    [
        "clientConnection: {qps: 5, burst: 10}",
        "iptables: {masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}",
        "conntrack: {maxPerCore: 32768, min: 131072, tcpEstablishedTimeout: 24h0m0s}",
        "udpIdleTimeout: 250ms",
        "configSyncPeriod: 15m0s",
        "winkernel: {enableDSR: false, networkName: ''}",
    ],
)
def test_what_upstream_does_anyway_is_no_note(text: str) -> None:
    assert upstream(text)[1] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bindAddress: nowhere", "is no IP address"),
        ("clusterCIDR: 10.0.0.0/8,10.1.0.0/16", "two networks of one family"),
        ("clusterCIDR: 10.0.0.1/8", r"\$\.clusterCIDR: '10\.0\.0\.1/8'"),
        ("nodePortAddresses: [secondary]", r"nodePortAddresses\[0\].*or one of"),
        ("detectLocalMode: Guess", "detectLocalMode: 'Guess' is none of"),
        ("detectLocalMode: BridgeInterface", "--pod-bridge-interface"),
        ("oomScoreAdj: 2000", "oomScoreAdj"),
        ("conntrack: {udpTimeout: soon}", r"\$\.conntrack\.udpTimeout: 'soon'"),
        ("iptables: {masqueradeAll: 1}", r"\$\.iptables\.masqueradeAll: expected"),
        ("healthzBindAddress: a:b:c", r"healthzBindAddress"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        upstream(text)


@pytest.mark.parametrize(
    "head",
    [
        "kind: KubeProxyConfiguration",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeletConfiguration",
    ],
)
def test_files_of_other_kinds_are_refused(head: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(head)
    with pytest.raises(ConfigError, match=r"config\.yaml: \$\..* is not"):
        parse(f"--config={file}")


def test_flags_win_over_both_kinds_of_files(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{hostnameOverride: b, capture: bind, path: direct}")
    config = parse(f"--config={own}", "--hostname-override=C", "--path=relay")
    assert (config.node_name, config.capture, config.path) == ("c", "bind", "relay")
    config = parse(f"--config={KUBEADM}", "--cluster-cidr=10.0.0.0/8,fd00::/64")
    assert config.cluster_cidrs == ("10.0.0.0/8", "fd00::/64")


def test_own_file_is_read_strictly(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{hostnameOverrid: b}")
    with pytest.raises(ConfigError, match="did you mean hostnameOverride"):
        parse(f"--config={own}")


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--healthz-port=0"], "healthz_bind_address", ""),
        (["--healthz-port=7"], "healthz_bind_address", "0.0.0.0:7"),
        (["--healthz-bind-address="], "healthz_bind_address", ""),
        (["--metrics-port=7"], "admin_address", "127.0.0.1:7"),
        (["--metrics-bind-address=0.0.0.0:7"], "admin_address", "0.0.0.0:7"),
        (["--metrics-bind-address=a:7", "--admin-address=b:7"], "admin_address", "b:7"),
        (["--nodeport-addresses=10.0.0.0/8,localhost", "--nodeport-addresses=all"],
         "node_port_addresses", ("10.0.0.0/8", "localhost", "all")),
        (["--iptables-localhost-nodeports"], "node_port_addresses",
         ("primary", "localhost")),
        (["--conntrack-udp-timeout=0"], "udp_timeout", 30.0),
        (["--conntrack-udp-timeout=5s"], "udp_timeout", 5.0),
        (["--oom-score-adj=-1"], "oom_score_adj", -1),
    ],
)  # fmt: skip
def test_flags_mean_what_they_mean_to_kube_proxy(
    arguments: list[str], field: str, value: object
) -> None:
    assert getattr(parse(*arguments), field) == value


@pytest.mark.parametrize("words", [["-v", "4"], ["-v=4"], ["--v=4"], ["--v", "10"]])
def test_verbosity_is_taken_as_klog_takes_it(words: list[str]) -> None:
    assert parse(*words).log.level == "debug"
    assert parse("--v=2").log.level == "info"


@pytest.mark.parametrize("name", IGNORED)
def test_other_flags_of_kube_proxy_are_one_warning(name: str) -> None:
    read = reader(f"{name}=true")
    assert read.read() == parse()
    assert read.notes == [f"{name}: ignored, {IGNORED[name]}"]


def test_pods_that_cannot_be_told_from_others_are_a_warning() -> None:
    (said,) = warnings(parse())
    assert "--cluster-cidr" in said
    assert warnings(parse("--cluster-cidr=10.0.0.0/8")) == []


def test_check_knows_both_kinds_of_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["check", str(KUBEADM)])
    assert result.exit_code == 0, result.output
    printed = yaml.safe_load(result.stdout)
    assert printed["clusterCIDR"] == "10.244.0.0/16"
    # What it prints is a file of ours with the same meaning.
    own = tmp_path / "own.yaml"
    own.write_text(result.stdout)
    assert parse(f"--config={own}") == parse(f"--config={KUBEADM}")
    again = CliRunner().invoke(program, ["check", "--mode=kube-proxy", str(own)])
    assert again.stdout == result.stdout


def test_example_is_a_file_that_can_be_read(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["check", "--example=kube-proxy"])
    file = tmp_path / "example.yaml"
    file.write_text(result.stdout)
    assert parse(f"--config={file}") == parse()
    schema = CliRunner().invoke(program, ["check", "--schema=kube-proxy"])
    assert "nodePortAddresses" in schema.stdout
