"""What stands behind every bastion of the benchmark: pods, and a cluster with them.

Two Services of plain pods, native/upstream.c: `web` of one, `many` of three, of which
one may be killed. Pods refuse requests that show any Authorization, or that no proxy
has put its X-Forwarded-For in: whoever forwards has to do both.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from loadtests import netns
from loadtests.http_files import Files
from loadtests.measure import BUILD
from loadtests.process import Process, free_port
from tests.fakes.bastion_cluster import (
    MERGE,
    NAMESPACE,
    Call,
    caller,
    make_pod,
    make_service,
)
from tests.fakes.reviewer import PATH, USERS

# Endpoints must not be loopback addresses; these are set aside for benchmarks.
HOSTS = tuple(f"198.18.0.{number}" for number in (1, 2, 3))
SPACE = f"/api/v1/namespaces/{NAMESPACE}/services"
WEB, MANY = f"{SPACE}/web:http/proxy", f"{SPACE}/many:http/proxy"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
READER, READER_TOKEN = "alice", "alice-token"


def add_addresses() -> None:
    """Give this network namespace addresses for pods."""
    for host in HOSTS:
        netns.add_address(host)


class Pod(Process):
    """A server behind bastions; with a token, a service that says who may pass."""

    def __init__(
        self, files: Files, cores: Sequence[int] | None, folder: Path, token: str = "-"
    ) -> None:
        bodies = [str(files.body(name)) for name in ("small", "list", "gzip")]
        command = [str(BUILD / "upstream"), "-", token, *bodies, "0.0.0.0"]
        super().__init__(command, cores, folder / "pod.log")
        self.port = int(self.line().split()[1])


@dataclass(frozen=True)
class Places:
    """Where pods are: of `web`, and of `many` in the order of HOSTS."""

    web: int
    many: tuple[int, ...]


def populate(call: Call, places: Places) -> None:
    """Tell a cluster of the pods, and let a reader and a crowd read them."""
    call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    make_pod(call, "web-0", HOSTS[0], [("http", places.web)])
    make_service(call, "web", [("http", 80, places.web)], "web-0", HOSTS[0])
    for number, host in enumerate(HOSTS):
        make_pod(call, f"many-{number}", host, [("http", places.many[number])])
    make_service(call, "many", [("http", 80, places.many[0])], "many-0", HOSTS[0])
    one = call("GET", f"{SLICES}/many-1")
    for number in (1, 2):
        call("POST", SLICES, _slice(one, number, places.many[number]))
    subsets = [_subset(number, places.many[number]) for number in (0, 1, 2)]
    older = f"/api/v1/namespaces/{NAMESPACE}/endpoints/many"
    with suppress(HTTPError):  # the sandbox has none
        call("PATCH", older, {"subsets": subsets}, MERGE)
    _grant(call)


def _ref(number: int) -> dict[str, str]:
    return {"kind": "Pod", "namespace": NAMESPACE, "name": f"many-{number}"}


def _slice(one: dict[str, Any], number: int, port: int) -> dict[str, Any]:
    endpoint = {"addresses": [HOSTS[number]], "targetRef": _ref(number)}
    labels = one["metadata"]["labels"]
    return {
        "metadata": {"name": f"many-{number + 1}", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [{**one["ports"][0], "port": port}],
    }


def _subset(number: int, port: int) -> dict[str, Any]:
    address = {"ip": HOSTS[number], "targetRef": _ref(number)}
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    return {"addresses": [address], "ports": ports}


def _grant(call: Call) -> None:
    group = "rbac.authorization.k8s.io"
    resources = ["services/proxy", "services/unsafeproxy"]
    rules = [{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]
    role = {"metadata": {"name": "proxied"}, "rules": rules}
    call("POST", f"{RBAC}/clusterroles", role)
    binding = {
        "metadata": {"name": "proxied"},
        "subjects": [
            {"kind": "User", "apiGroup": group, "name": READER},
            {"kind": "Group", "apiGroup": group, "name": USERS},
        ],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "proxied"},
    }
    call("POST", f"{RBAC}/clusterrolebindings", binding)


class Cluster:
    """The apiserver that ours asks: it counts what it is asked for."""

    def __init__(
        self,
        stack: ExitStack,
        files: Files,
        cores: Sequence[int] | None,
        folder: Path,
    ) -> None:
        self.port = free_port()
        pem, ca = str(files.server), str(files.authority)
        command = [sys.executable, "-m", "tests.fakes.reviewer", str(self.port)]
        log = folder / "cluster.log"
        process = stack.enter_context(Process([*command, pem, pem, ca], cores, log))
        process.line()
        self.url = f"https://127.0.0.1:{self.port}"
        self.call = caller(self.url, files.authority)
        self._files = files

    def counts(self) -> dict[str, int]:
        """What was asked for so far, by name."""
        return dict(self.call("GET", PATH))
