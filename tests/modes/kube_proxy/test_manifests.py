"""docs/kubernetes/kube-proxy.yaml: that its parts fit each other, and the command."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyproxy.cli.kube_proxy import Reader, kube_proxy
from pyproxy.kube.config import ClientFlags, load
from pyproxy.modes.kube_proxy import KubeProxy, warnings

FILE = Path(__file__).parents[3] / "docs" / "kubernetes" / "kube-proxy.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """By kind; there is one of each."""
    every = list(yaml.safe_load_all(FILE.read_text()))
    found = {each["kind"]: each for each in every}
    assert len(found) == len(every)
    return found


@pytest.fixture(scope="module")
def pod(objects: dict[str, Any]) -> Any:
    """What runs on each node."""
    return objects["DaemonSet"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    """The only one."""
    (found,) = pod["containers"]
    return found


@pytest.fixture
def config(objects: dict[str, Any], container: Any, tmp_path: Path) -> KubeProxy:
    """What the command makes of flags and file."""
    for name, text in objects["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    command, *arguments = container["args"]
    assert command == "kube-proxy"
    with kube_proxy.make_context(command, list(arguments)) as context:
        flags: dict[str, Any] = dict(context.params)
    given = Path(flags.pop("config"))
    assert given.parent == Path("/etc/pyproxy")
    for name in ("cleanup", "init_only", "write_config_to"):
        assert not flags.pop(name)
    reader = Reader(tmp_path / given.name, flags)
    config = reader.read()
    assert reader.notes == []
    assert warnings(config) == []
    return config


def test_command_takes_flags_and_file(config: KubeProxy) -> None:
    assert config.cluster_cidrs == ("10.244.0.0/16",)
    assert config.client.kubeconfig == "/etc/pyproxy/kubeconfig.conf"


def test_kubeconfig_is_one(objects: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    text = objects["ConfigMap"]["data"]["kubeconfig.conf"]
    mount = "/var/run/secrets/kubernetes.io/serviceaccount"
    text = text.replace(f"{mount}/token", str(tmp_path / "token"))
    (tmp_path / "token").write_text("sesame")
    file.write_text(
        "\n".join(each for each in text.splitlines() if "authority" not in each)
    )
    access = load(ClientFlags(kubeconfig=str(file)), {})
    assert access.server.url == "https://control-plane.example:6443"


def test_a_new_pod_can_follow_an_old_one(
    objects: dict[str, Any], pod: Any, container: Any, config: KubeProxy
) -> None:
    update = objects["DaemonSet"]["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}
    # With hostNetwork a declared port keeps a second Pod from the node.
    assert pod["hostNetwork"]
    assert "ports" not in container
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    socket = Path(config.handover_socket)
    assert "hostPath" in volumes[mounts[str(socket.parent)]]  # both see it
    ready = Path(config.ready_file)
    assert "emptyDir" in volumes[mounts[str(ready.parent)]]  # each has its own
    assert container["readinessProbe"]["exec"]["command"][-1] == str(ready)
    assert pod["terminationGracePeriodSeconds"] > config.timeouts.drain


def test_probe_asks_where_the_command_answers(
    container: Any, config: KubeProxy
) -> None:
    probe = container["livenessProbe"]["httpGet"]
    assert probe["path"] == "/livez"
    assert config.healthz_bind_address == f"0.0.0.0:{probe['port']}"


def test_no_capability_is_there_that_has_no_use(container: Any) -> None:
    context = container["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"]["add"]) == {"NET_ADMIN", "BPF", "SYS_RESOURCE"}
    assert not context["allowPrivilegeEscalation"]
    assert "privileged" not in context
    assert context["readOnlyRootFilesystem"]


def test_rights_are_those_of_every_kube_proxy(objects: dict[str, Any]) -> None:
    binding = objects["ClusterRoleBinding"]
    assert binding["roleRef"]["name"] == "system:node-proxier"
    (subject,) = binding["subjects"]
    account = objects["ServiceAccount"]["metadata"]
    assert subject["name"] == account["name"]
    assert subject["namespace"] == account["namespace"]
    spec = objects["DaemonSet"]["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == account["name"]
    labels = objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert labels == objects["DaemonSet"]["spec"]["selector"]["matchLabels"]
    assert (
        objects["ConfigMap"]["metadata"]["name"]
        == (spec["volumes"][0]["configMap"]["name"])
    )
