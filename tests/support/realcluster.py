"""A real kube-apiserver with its etcd, for tests that must hold there, too.

The programs are looked for where envtest does: in $KUBEBUILDER_ASSETS, or in
/usr/local/kubebuilder/bin. Nothing but those two runs: no controllers, no kubelet.
"""

import contextlib
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pyproxy.sandbox.certificates import Authority
from tests.support.servers import free_port
from tests.support.waiting import scaled, wait_until

ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin"))
HOST = "127.0.0.1"
START_S = 60.0
# Token, user, uid, groups: those of tests/golden.
TOKENS = """\
admin-token,admin,u-admin,"system:masters"
alice-token,alice,u-alice
bob-token,bob,u-bob,"viewers"
"""
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def obstacle() -> str:
    """Why no real cluster can be started; empty if one can."""
    missing = [n for n in ("etcd", "kube-apiserver") if not (ASSETS / n).exists()]
    return f"no {' and '.join(missing)} in {ASSETS}" if missing else ""


class RealCluster:
    """etcd and kube-apiserver in a directory of their own; a context manager."""

    def __init__(self, directory: Path, *flags: str) -> None:
        """`flags` are more of them for kube-apiserver."""
        directory.mkdir(parents=True, exist_ok=True)
        self._flags = flags
        self._directory = directory
        self._authority = Authority(directory)
        self._pair = self._authority.issue("server", [HOST, "localhost"])
        self._etcd_port, self._peer_port, self.port = (free_port() for _ in range(3))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self._apiserver: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{HOST}:{self.port}"

    @property
    def ca(self) -> Path:
        """What to trust it by."""
        return self._authority.certificate

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start_etcd()
            self._start_apiserver()
            self._grant()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def restart(self) -> None:
        """Start another kube-apiserver in its place: its watch cache is empty."""
        assert self._apiserver is not None
        self._apiserver.kill()
        self._apiserver.wait(scaled(30))
        self._start_apiserver()

    def compact(self) -> None:
        """Let etcd forget all history."""
        url = f"http://{HOST}:{self._etcd_port}/v3/kv"
        status = _post(f"{url}/range", {"key": "AA=="})
        revision = status["header"]["revision"]
        _post(f"{url}/compaction", {"revision": revision, "physical": True})

    def call(self, method: str, path: str, body: object = None, kind: str = "") -> Any:
        """Send a request as administrator and return the decoded answer."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", "Bearer admin-token")
        request.add_header("Content-Type", kind or "application/json")
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text

    def _write_files(self) -> None:
        (self._directory / "tokens.csv").write_text(TOKENS)
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self._directory / "accounts.key").write_bytes(pem)

    def _run(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        log = (self._directory / f"{name}.log").open("ab")
        self._logs.append(log)
        process = subprocess.Popen(
            [ASSETS / name, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._processes.append(process)
        return process

    def _start_etcd(self) -> None:
        client = f"http://{HOST}:{self._etcd_port}"
        peer = f"http://{HOST}:{self._peer_port}"
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def _start_apiserver(self) -> None:
        directory = self._directory
        accounts = f"{directory / 'accounts.key'}"
        self._apiserver = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://{HOST}:{self._etcd_port}",
            f"--bind-address={HOST}",
            f"--secure-port={self.port}",
            f"--cert-dir={directory / 'certs'}",
            f"--tls-cert-file={self._pair.certificate}",
            f"--tls-private-key-file={self._pair.key}",
            f"--client-ca-file={self.ca}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--disable-admission-plugins=ServiceAccount",
            *self._flags,
        )
        wait_until(self._is_ready, START_S, "kube-apiserver is ready")

    def _is_ready(self) -> bool:
        for process in self._processes[-1:]:
            code = process.poll()
            assert code is None, f"ended with {code}: {self._directory}"
        with contextlib.suppress(OSError):
            return bool(self.call("GET", "/readyz") == b"ok")
        return False

    def _grant(self) -> None:
        """Give bob's group the role `view`, which a controller would fill."""
        service = "/api/v1/namespaces/default/services"
        wait_until(lambda: self.call("GET", service)["items"], START_S, service)
        parts = self.call("GET", f"{_RBAC}/clusterroles/system:aggregate-to-view")
        rules = {"rules": parts["rules"]}
        merge = "application/merge-patch+json"
        self.call("PATCH", f"{_RBAC}/clusterroles/view", rules, merge)
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": "viewers"},
            "subjects": [{"kind": "Group", "apiGroup": group, "name": "viewers"}],
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
        }
        self.call("POST", f"{_RBAC}/clusterrolebindings", binding)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait(scaled(30))
        for log in self._logs:
            log.close()


def _post(url: str, body: object) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
