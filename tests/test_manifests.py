"""The manifests of docs/kubernetes: flags that exist, rights that are used, no more."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyproxy.cli.apiserver_proxy import apiserver_proxy, read_config
from pyproxy.discovery.targets import Resolver, Stores
from pyproxy.modes.apiserver_proxy import ApiserverProxy
from pyproxy.modes.apiserver_proxy.watches import follow
from pyproxy.sandbox.apiserver import write_kubeconfig
from tests.support import realcluster
from tests.support.kubectl import Kubectl

DOCS = Path(__file__).parent.parent / "docs" / "kubernetes"
FILE = DOCS / "apiserver-proxy.yaml"


def objects() -> list[dict[str, Any]]:
    """All of the file."""
    return list(yaml.safe_load_all(FILE.read_text()))


def only(kind: str) -> dict[str, Any]:
    """The object of a kind."""
    (found,) = [each for each in objects() if each["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    return dict(only("Deployment")["spec"]["template"]["spec"])


def config() -> ApiserverProxy:
    """What the command of the container means."""
    name, *flags = pod()["containers"][0]["args"]
    assert name == apiserver_proxy.name
    with apiserver_proxy.make_context(name, flags) as context:
        params: dict[str, Any] = dict(context.params)
    del params["config"]
    return read_config(None, params)


def test_flags_are_those_of_the_program_and_fit_the_rest() -> None:
    made = config()
    (container,) = pod()["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert made.secure_port == ports["https"]
    assert made.admin_address == f"0.0.0.0:{ports['admin']}"
    mounts = [each["mountPath"] for each in container["volumeMounts"]]
    for file in (made.tls_cert_file, made.tls_private_key_file, made.client_ca_file):
        assert str(Path(file).parent) in mounts
    assert [v["name"] for v in container["volumeMounts"]] == [
        volume["name"] for volume in pod()["volumes"]
    ]
    ends_s = float(made.timeouts.shutdown_delay) + float(made.timeouts.drain)
    assert pod()["terminationGracePeriodSeconds"] > ends_s
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container[name]["httpGet"]["port"] == "admin"


def test_rights_are_those_that_reflectors_use_and_no_more() -> None:
    class Unused:
        pass

    stores = Stores()
    unused: Any = Unused()
    followed = follow(
        unused, stores, unused, lambda: Resolver(stores), lambda kind: None
    )
    wanted = set()
    for reflector in followed.values():
        what = reflector._selection.resource
        wanted |= {(what.group, what.plural, verb) for verb in ("list", "watch")}
    given = {
        (group, plural, verb)
        for rule in only("ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == wanted


def test_bindings_are_of_the_account_that_runs() -> None:
    account = only("ServiceAccount")["metadata"]
    assert pod()["serviceAccountName"] == account["name"]
    bindings = [each for each in objects() if each["kind"] == "ClusterRoleBinding"]
    assert {each["roleRef"]["name"] for each in bindings} == {
        only("ClusterRole")["metadata"]["name"],
        "system:auth-delegator",
    }
    for each in bindings:
        subject = {"kind": "ServiceAccount", **account}
        assert each["subjects"] == [subject]


def test_selectors_select_the_pods() -> None:
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"]
    spec = only("Deployment")["spec"]
    assert spec["selector"]["matchLabels"] == labels
    assert only("Service")["spec"]["selector"] == labels
    assert only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert spec["replicas"] > only("PodDisruptionBudget")["spec"]["minAvailable"]


def test_flags_of_the_text_are_those_of_the_program() -> None:
    known = {name for param in apiserver_proxy.params for name in param.opts}
    text = (DOCS / "README.md").read_text()
    said = {
        word.strip("`().,:").partition("=")[0]
        for word in text.split()
        if word.strip("`(").startswith("--")
    }
    others = {"--resource", "--resource-name", "--verb", "--clusterrole", "--user"}
    assert said - others - {"---", "--"} <= known


@pytest.mark.cluster
@pytest.mark.timeout(180)
def test_apiserver_takes_the_manifests(tmp_path: Path) -> None:
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    with realcluster.RealCluster(tmp_path / "server") as cluster:
        path = tmp_path / "kubeconfig"
        write_kubeconfig(path, cluster.url, cluster.ca, "admin-token")
        kubectl = Kubectl(tmp_path / "home", f"--kubeconfig={path}")
        kubectl.run("create", "namespace", "pyproxy")
        done = kubectl.run("apply", "--dry-run=server", "-f", str(FILE))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("created (server dry run)") == len(objects())
        assert "warning" not in done.stderr.lower()
        # The account can do what it needs to, and no more.
        kubectl.run("apply", "-f", str(FILE))
        for verb, group, plural, subresource, may in (
            ("watch", "discovery.k8s.io", "endpointslices", "", True),
            ("create", "authorization.k8s.io", "subjectaccessreviews", "", True),
            ("create", "authentication.k8s.io", "tokenreviews", "", True),
            ("get", "", "services", "proxy", False),
            ("list", "", "secrets", "", False),
        ):
            what = {"verb": verb, "group": group, "resource": plural}
            spec = {
                "user": "system:serviceaccount:pyproxy:apiserver-proxy",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {**what, "subresource": subresource},
            }
            review = {"kind": "SubjectAccessReview", "spec": spec}
            review["apiVersion"] = "authorization.k8s.io/v1"
            url = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            assert cluster.call("POST", url, review)["status"]["allowed"] == may, what
