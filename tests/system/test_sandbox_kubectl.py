"""kubectl at work on the sandbox's API server and on a real one, straight and proxied.

What takes a kubelet (logs, exec, pods that start) or controllers is asked of the
sandbox alone: the real cluster here is an etcd and a kube-apiserver, nothing else. With
something like a kubelet it is in test_kubectl_proxy_cluster.py.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyproxy.sandbox.apiserver import write_kubeconfig
from tests.fakes.apiserver import authority
from tests.fakes.process import Program
from tests.support import realcluster
from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # a process per line

Server = Callable[[Path], contextlib.AbstractContextManager[str]]

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: metrics, port: 9090}
"""


@contextlib.contextmanager
def sandbox(directory: Path) -> Iterator[str]:
    """The sandbox's API server in a process of its own; yields the flag to reach it."""
    issuer = authority(directory / "ca")
    pair, ca = issuer.issue("apiserver", ["127.0.0.1"]), issuer.certificate
    files = (str(pair.certificate), str(pair.key), str(ca))
    module = "pyproxy.sandbox.apiserver"
    with Program(directory, module, "127.0.0.1", "0", *files) as program:
        program.wait_for("\n")
        url = f"https://127.0.0.1:{program.stdout.strip()}"
        write_kubeconfig(directory / "kubeconfig", url, ca, "admin-token")
        yield f"--kubeconfig={directory / 'kubeconfig'}"
        assert program.stderr == ""


@contextlib.contextmanager
def real(directory: Path) -> Iterator[str]:
    """A kube-apiserver; yields the flag to reach it."""
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    with realcluster.RealCluster(directory) as cluster:
        path = directory / "kubeconfig"
        write_kubeconfig(path, cluster.url, cluster.ca, "admin-token")
        yield f"--kubeconfig={path}"


@contextlib.contextmanager
def proxied(server: Server, directory: Path) -> Iterator[str]:
    """A server behind `pyproxy kubectl-proxy`; yields the flag to reach it."""
    # By default the proxy refuses exec, as kubectl's own does.
    flags = ("--port=0", "--reject-paths=^$")
    with (
        server(directory / "server") as kubeconfig,
        Program(directory, "pyproxy", "kubectl-proxy", *flags, kubeconfig) as program,
    ):
        program.wait_for("Starting to serve on ")
        address = program.stdout.split()[-1]
        yield f"--server=http://{address}"


CLUSTER = [pytest.mark.cluster, pytest.mark.slow]
WAYS = [
    pytest.param(sandbox, id="sandbox"),
    pytest.param(functools.partial(proxied, sandbox), id="proxied"),
    pytest.param(real, id="real", marks=CLUSTER),
    pytest.param(functools.partial(proxied, real), id="real-proxied", marks=CLUSTER),
]


@pytest.fixture(scope="module", params=WAYS)
def kubectl(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubectl]:
    """One server, as its administrator."""
    directory = tmp_path_factory.mktemp("kubectl")
    with request.param(directory / "server") as flag:
        yield Kubectl(directory / "client", flag)


@pytest.fixture(scope="module", params=WAYS[:2])
def pods(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubectl]:
    """A server where pods run: the sandbox."""
    directory = tmp_path_factory.mktemp("pods")
    with request.param(directory / "server") as flag:
        yield Kubectl(directory / "client", flag)


@pytest.fixture
def space(kubectl: Kubectl, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own, as a flag."""
    name = request.node.originalname.replace("_", "-")[:60].strip("-")
    kubectl("create", "namespace", name)
    return f"--namespace={name}"


def test_version_and_resources_are_told(kubectl: Kubectl) -> None:
    version = json.loads(kubectl("version", "--output=json"))
    assert version["serverVersion"]["gitVersion"].startswith("v1.36.")
    listed = kubectl("api-resources", "--no-headers").splitlines()
    found = {line.split()[0]: line.split() for line in listed}
    for name in ("namespaces", "pods", "services", "endpointslices", "endpoints"):
        assert name in found
    assert found["services"][1:3] == ["svc", "v1"]
    assert "leases" in found
    assert "v1" in kubectl("api-versions").splitlines()


def test_namespace_already_there_is_refused(kubectl: Kubectl) -> None:
    error = kubectl.fails("create", "namespace", "default")
    assert error == (
        'Error from server (AlreadyExists): namespaces "default" already exists\n'
    )


def test_configmap_created_read_and_deleted(kubectl: Kubectl, space: str) -> None:
    pairs = ("--from-literal=a=1", "--from-literal=b=two")
    assert kubectl("create", "configmap", "c", *pairs, space) == "configmap/c created\n"
    assert kubectl("get", "cm", "c", "-ojsonpath={.data.b}", space) == "two"
    row = kubectl("get", "cm", "c", "--no-headers", space).split()
    assert row[:2] == ["c", "2"]
    assert "b:\n----\ntwo" in kubectl("describe", "cm", "c", space)
    assert "deleted" in kubectl("delete", "cm", "c", space)
    error = kubectl.fails("get", "cm", "c", space)
    assert error == 'Error from server (NotFound): configmaps "c" not found\n'


def test_kinds_that_kubectl_makes_in_protobuf(kubectl: Kubectl, space: str) -> None:
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v", space)
    assert kubectl("get", "secret", "s", "-ojsonpath={.data.k}", space) == "dg=="
    kubectl("create", "serviceaccount", "robot", space)
    kubectl("create", "service", "nodeport", "n", "--tcp=80:8080", space)
    port = kubectl("get", "svc", "n", "-ojsonpath={.spec.ports[0].targetPort}", space)
    assert port == "8080"
    kubectl("create", "role", "r", "--verb=get", "--resource=pods", space)
    kubectl("create", "rolebinding", "rb", "--role=r", "--user=carol", space)
    assert kubectl("auth", "can-i", "get", "pods", "--as=carol", space) == "yes\n"
    done = kubectl.run(
        *("auth", "can-i", "delete", "pods"), "--as=carol", space, code=1
    )
    assert done.stdout == "no\n"
    assert len(kubectl("create", "token", "robot", space)) > 20


def test_apply_makes_leaves_and_changes(kubectl: Kubectl, space: str) -> None:
    apply = ("apply", "--filename=-", space)
    assert kubectl(*apply, stdin=SERVICE) == "service/web created\n"
    assert kubectl(*apply, stdin=SERVICE) == "service/web unchanged\n"
    assert kubectl("diff", "--filename=-", space, stdin=SERVICE) == ""
    smaller = SERVICE.replace("  - {name: metrics, port: 9090}\n", "")
    smaller = smaller.replace("app: web}}", "tier: front}}")
    difference = kubectl.run("diff", "--filename=-", space, stdin=smaller, code=1)
    assert "-    port: 9090" in difference.stdout.replace("  -", "-")
    assert kubectl(*apply, stdin=smaller) == "service/web configured\n"
    found = json.loads(kubectl("get", "svc", "web", "--output=json", space))
    assert [port["name"] for port in found["spec"]["ports"]] == ["http"]
    assert found["metadata"]["labels"] == {"tier": "front"}


def test_apply_names_unknown_fields(kubectl: Kubectl, space: str) -> None:
    wrong = SERVICE.replace("selector:", "selektor:")
    error = kubectl.fails("apply", "--filename=-", space, stdin=wrong)
    assert "strict decoding error" in error
    assert 'unknown field "spec.selektor"' in error


def test_server_side_apply_shows_conflicts(kubectl: Kubectl, space: str) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1", space)
    config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: '2'}}"
    apply = ("apply", "--server-side", "--filename=-", space)
    error = kubectl.fails(*apply, stdin=config)
    assert 'conflict with "kubectl-create" using v1: .data.a' in error
    kubectl(*apply, "--force-conflicts", stdin=config)
    assert kubectl("get", "cm", "c", "-ojsonpath={.data.a}", space) == "2"


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("json", '[{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]'),
        ("merge", '{"spec": {"ports": [{"name": "http", "port": 81}]}}'),
        ("strategic", '{"spec": {"ports": [{"port": 81, "name": "other"}]}}'),
    ],
)
def test_patch_of_each_kind(
    kubectl: Kubectl, request: pytest.FixtureRequest, kind: str, patch: str
) -> None:
    space = f"--namespace=patch-{kind}"
    kubectl("create", "namespace", f"patch-{kind}")
    kubectl("apply", "--filename=-", space, stdin=SERVICE)
    kubectl("patch", "svc", "web", f"--type={kind}", f"--patch={patch}", space)
    path = "-ojsonpath={.spec.ports[*].port}"
    expected = {"json": "81 9090", "merge": "81", "strategic": "80 9090 81"}
    found = kubectl("get", "svc", "web", path, space).split()
    assert sorted(found) == sorted(expected[kind].split())


def test_edit_label_annotate_and_set(kubectl: Kubectl, space: str) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=old", space)
    editor = {"KUBE_EDITOR": "sed -i s/old/new/"}
    edited = kubectl.run("edit", "cm", "c", space, environment=editor)
    assert edited.stdout == "configmap/c edited\n"
    kubectl("label", "cm", "c", "x=1", space)
    kubectl("annotate", "cm", "c", "note=here", space)
    assert kubectl("get", "cm", "--selector=x=1", "--output=name", space) == (
        "configmap/c\n"
    )
    kubectl("label", "cm", "c", "x-", space)
    assert kubectl("get", "cm", "--selector=x", "--output=name", space) == ""
    assert kubectl("get", "cm", "c", "-ojsonpath={.data.a}", space) == "new"


def test_lists_come_in_pages_and_sorted(kubectl: Kubectl, space: str) -> None:
    names = [f"c{number}" for number in range(7)]
    lists = "\n---\n".join(
        f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}"
        for name in names
    )
    kubectl("create", "--filename=-", space, stdin=lists)
    asked = ("get", "cm", "--chunk-size=2", "--output=name", space)
    assert [n for n in kubectl(*asked).split() if "root-ca" not in n] == [
        f"configmap/{name}" for name in names
    ]
    by_name = kubectl("get", "cm", "--sort-by=.metadata.name", "--no-headers", space)
    assert [line.split()[0] for line in by_name.splitlines()] == names
    one = "--field-selector=metadata.name=c3"
    assert kubectl("get", "cm", one, "--output=name", space) == "configmap/c3\n"


def test_watch_shows_each_change(kubectl: Kubectl, space: str) -> None:
    kubectl("create", "configmap", "first", "--from-literal=a=1", space)
    watch = ("get", "cm", "--watch", "--no-headers", "--output-watch-events", space)
    with kubectl.follow(*watch) as watching:
        watching.wait_for("ADDED")
        kubectl("create", "configmap", "second", space)
        watching.wait_for("second")
        patch = '--patch={"data": {"b": "2"}}'
        kubectl("patch", "cm", "first", "--type=merge", patch, space)
        watching.wait_for("MODIFIED")
        kubectl("delete", "cm", "second", space)
        watching.wait_for("DELETED")
    rows = [line.split()[:3] for line in watching.text.splitlines()]
    assert rows == [
        ["ADDED", "first", "1"],
        ["ADDED", "second", "0"],
        ["MODIFIED", "first", "2"],
        ["DELETED", "second", "0"],
    ]


def test_wait_sees_a_field_and_an_end(kubectl: Kubectl, space: str) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1", space)
    path = "--for=jsonpath={.data.a}=2"
    with kubectl.follow("wait", path, "cm/c", "--timeout=30s", space) as waiting:
        patch = '--patch={"data": {"a": "2"}}'
        kubectl("patch", "cm", "c", "--type=merge", patch, space)
        assert waiting.wait() == 0
    with kubectl.follow(
        "wait", "--for=delete", "cm/c", "--timeout=30s", space
    ) as waiting:
        kubectl("delete", "cm", "c", space)
        assert waiting.wait() == 0


def test_explain_names_the_fields(kubectl: Kubectl) -> None:
    text = kubectl("explain", "service.spec.ports")
    for field in ("nodePort", "targetPort", "protocol"):
        assert field in text
    assert 'field "nope" does not exist' in kubectl.fails("explain", "service.nope")


def test_identities_and_what_they_may(kubectl: Kubectl) -> None:
    assert "system:masters" in kubectl("auth", "whoami")
    error = kubectl.fails("get", "pods", "--as=alice", "--all-namespaces")
    assert error == (
        'Error from server (Forbidden): pods is forbidden: User "alice" cannot list'
        ' resource "pods" in API group "" at the cluster scope\n'
    )
    as_bob = ("--as=bob", "--as-group=viewers")
    assert "kubernetes" in kubectl("get", "services", *as_bob)
    assert "cannot delete" in kubectl.fails("delete", "svc", "kubernetes", *as_bob)


def test_lease_event_slice_and_node(kubectl: Kubectl, space: str) -> None:
    documents = """\
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l},
 spec: {holderIdentity: me, renewTime: "2026-01-01T00:00:00.000000Z"}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s},
 addressType: IPv4, endpoints: [{addresses: [10.1.2.3]}], ports: [{port: 80}]}
"""
    kubectl("apply", "--filename=-", space, stdin=documents)
    assert kubectl("get", "lease", "l", "--no-headers", space).split()[1] == "me"
    row = kubectl("get", "endpointslice", "s", "--no-headers", space).split()
    assert row[1:4] == ["IPv4", "80", "10.1.2.3"]
    node = "{apiVersion: v1, kind: Node, metadata: {name: n1}}"
    kubectl("create", "--filename=-", stdin=node)
    kubectl("cordon", "n1")
    assert "SchedulingDisabled" in kubectl("get", "node", "n1")
    assert "Unschedulable:      true" in kubectl("describe", "node", "n1")
    kubectl("delete", "node", "n1")


def test_logs_of_a_pod(pods: Kubectl) -> None:
    assert pods("logs", "web-0") == "web: started\n"
    assert pods("logs", "--selector=app=web", "--tail=1").count("started") == 2
    assert "not found" in pods.fails("logs", "nope")


def test_logs_follow_what_is_written_now(pods: Kubectl) -> None:
    with pods.follow("logs", "--follow", "--tail=0", "web-1") as following:
        # The line is written again until the log is followed.
        for number in range(100):
            pods("exec", "web-1", "--", "log", f"line {number}")
            if following.text:
                break
        following.wait_for("line")
        pods("exec", "web-1", "--", "log", "the last")
        following.wait_for("the last\n")


def test_exec_runs_a_command(pods: Kubectl) -> None:
    assert pods("exec", "web-0", "--", "echo", "hello", "there") == "hello there\n"
    assert pods("exec", "web-0", "--", "hostname") == "web-0\n"
    both = ("exec", "web-0", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    done = pods.run(*both, code=3)
    assert done.stdout == "out\n"
    assert done.stderr == "err\ncommand terminated with exit code 3\n"
    done = pods.run("exec", "web-0", "--", "nope", code=127)
    assert 'exec: "nope"' in done.stderr


def test_exec_passes_stdin_to_its_end(pods: Kubectl) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert pods("exec", "-i", "web-0", "--", "cat", stdin=text) == text


def test_exec_answers_while_stdin_is_open(pods: Kubectl) -> None:
    with pods.follow("exec", "-i", "web-0", "--", "cat") as talking:
        talking.write("one\n")
        talking.wait_for("one\n")
        talking.write("two\n")
        talking.wait_for("two\n")
        talking.end_input()
        assert talking.wait() == 0


def test_pod_starts_gets_ready_and_ends(pods: Kubectl) -> None:
    assert pods("run", "mine", "--image=nginx:1") == "pod/mine created\n"
    pods("wait", "--for=condition=Ready", "pod/mine", "--timeout=20s")
    row = pods("get", "pod", "mine", "--no-headers", "--output=wide").split()
    assert row[1:3] == ["1/1", "Running"]
    assert "Node:" in pods("describe", "pod", "mine")
    assert "deleted" in pods("delete", "pod", "mine")
    assert "not found" in pods.fails("get", "pod", "mine")


def test_namespace_takes_along_what_is_in_it(pods: Kubectl) -> None:
    pods("create", "namespace", "gone")
    pods("create", "configmap", "c", "--namespace=gone")
    pods("run", "p", "--image=x:1", "--namespace=gone")
    assert 'namespace "gone" deleted' in pods("delete", "namespace", "gone")
    assert "not found" in pods.fails("get", "namespace", "gone")
    assert pods("get", "all", "--namespace=gone", "--output=name") == ""


def test_service_finds_its_pods(pods: Kubectl) -> None:
    text = pods("describe", "service", "web")
    address = pods("get", "pod", "web-0", "-ojsonpath={.status.podIP}")
    assert f"{address}:8080" in text
