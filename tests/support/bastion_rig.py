"""A bastion with users of several rights: what its black-box tests share."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.bastion import Backend, Bastion, bastion
from tests.fakes.bastion_cluster import NAMESPACE, Call
from tests.fakes.desk import Answer

SPACE = f"/api/v1/namespaces/{NAMESPACE}"
WEB = f"{SPACE}/services/web:odd/proxy"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass(frozen=True)
class Rig:
    """What tests share; they make objects of their own."""

    program: Bastion
    backend: Backend
    call: Call
    users: Authority
    fronts: Authority

    def ask(self, target: str, *lines: str, **more: Any) -> Answer:
        """Send a request."""
        return self.program.ask(target, *lines, **more)

    def echo(self, target: str, *lines: str, **more: Any) -> dict[str, Any]:
        """Return what the backend saw of a request."""
        answer = self.ask(target, *lines, **more)
        assert answer.status == 200, answer
        return dict(json.loads(answer.body))

    def metric(self, text: str) -> float:
        """Return the value of a line of the metrics."""
        found = re.search(
            rf"^{re.escape(text)} (\S+)$", self.program.admin("/metrics")[1], re.M
        )
        assert found is not None, text
        return float(found[1])


@contextmanager
def bastion_rig(directory: Path, *given: str) -> Iterator[Rig]:
    """Run a bastion that knows users and front proxies by their certificates.

    `given` are more of its flags.
    """
    (directory / "fronts").mkdir()
    fronts = Authority(directory / "fronts", "front proxies", below=1)
    flags = (
        f"--requestheader-client-ca-file={fronts.certificate}",
        "--requestheader-username-headers=X-Who",
        "--requestheader-username-headers=X-Remote-User",
    )
    (directory / "users").mkdir()
    users = Authority(directory / "users", "users", below=1)
    more = (*flags, f"--client-ca-file={users.certificate}", *given)
    with bastion(directory / "rig", *more) as (program, backend, call):
        grant(call)
        yield Rig(program, backend, call, users, fronts)


def grant(call: Call) -> None:
    """Let alice and jane read one Service and all Nodes through the proxy."""
    group = "rbac.authorization.k8s.io"
    rules = [
        {
            "apiGroups": [""],
            "resources": ["services/proxy", "services/unsafeproxy"],
            "resourceNames": ["web:odd"],
            "verbs": ["get"],
        },
        {
            "apiGroups": [""],
            "resources": ["nodes/proxy", "nodes/unsafeproxy"],
            "verbs": ["get"],
        },
    ]
    role = {"metadata": {"name": "reader"}, "rules": rules}
    call("POST", f"{RBAC}/clusterroles", role)
    subjects = [
        {"kind": "User", "apiGroup": group, "name": name} for name in ("alice", "jane")
    ]
    binding = {
        "metadata": {"name": "readers"},
        "subjects": subjects,
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
    }
    call("POST", f"{RBAC}/clusterrolebindings", binding)


def message(answer: Answer) -> str:
    """Return what a Status says."""
    return str(json.loads(answer.body)["message"])


def issued(authority: Authority, name: str, *groups: str) -> Pair:
    """Return a certificate of a user or of a front proxy."""
    return authority.issue(name, [], groups=groups)


def request(target: str, *lines: str, token: str = "admin-token") -> bytes:
    """Return the bytes of a GET."""
    every = [f"GET {target} HTTP/1.1", "Host: h", *lines]
    if token:
        every.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*every, "", ""]).encode()


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read up to and with `end`; to the end of the stream if that is empty."""
    read = b""
    while not end or not read.endswith(end):
        chunk = connection.recv(65536)
        if not chunk and not end:
            return read
        assert chunk, read
        read += chunk
    return read
