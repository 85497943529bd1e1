"""What the upstream serves and what it takes to trust it, made once per run.

Objects look like what a kube-apiserver answers: a GET of about 1 KB, a list of pods of
10 MB, one item per line (the upstream makes each line a chunk), and the same list
compressed as the API server does it, at level 1. All bytes are the same in every run.
"""

import datetime
import gzip
import hashlib
import ipaddress
import json
import random
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# As long as that of a service account.
TOKEN = "eyJhbGciOiJSUzI1NiJ9." + "loadtests" * 90
LIST_BYTES = 10_000_000
SMALL_BYTES = 1000


@dataclass(frozen=True)
class Files:
    """Paths of one run."""

    folder: Path
    list_bytes: int = LIST_BYTES

    @property
    def authority(self) -> Path:
        """Certificate that everybody trusts."""
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        """The upstream's certificate and key."""
        return self.folder / "server.pem"

    def body(self, name: str) -> Path:
        """One of small, list, gzip."""
        return self.folder / name

    def make(self) -> None:
        """Write all of them."""
        make_certificates(self.authority, self.server)
        listed = pod_list(self.list_bytes)
        self.body("small").write_bytes(small_object(SMALL_BYTES))
        self.body("list").write_bytes(listed)
        self.body("gzip").write_bytes(gzip.compress(listed, compresslevel=1, mtime=0))

    def describe(self) -> str:
        """Sizes and digests of the bodies, for the results."""
        parts = []
        for name in ("small", "list", "gzip"):
            data = self.body(name).read_bytes()
            digest = hashlib.sha256(data).hexdigest()[:16]
            parts.append(f"{name} {len(data):,} bytes (sha256 {digest})")
        return ", ".join(parts)


def make_certificates(authority: Path, server: Path) -> None:
    """An authority and a certificate for localhost, with P-256 keys.

    Small keys keep full handshakes cheap for the upstream, so that it is not what a
    proxy that cannot resume sessions waits for.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loadtests CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    ca = (
        _certificate(ca_name, ca_key, ca_name)
        .add_extension(constraints, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    leaf = (
        _certificate(name, key, ca_name)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    authority.write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server.write_bytes(leaf.public_bytes(pem) + private)


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def small_object(size: int) -> bytes:
    """A ConfigMap of about `size` bytes."""
    body = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": _metadata(random.Random(1), "web-0"),
        "data": {"note": ""},
    }
    room = size - len(_compact(body))
    body["data"] = {"note": "x" * max(0, room)}
    return _compact(body)


def pod_list(size: int) -> bytes:
    """A PodList of at least `size` bytes, one pod per line."""
    dice = random.Random(2)
    lines = [b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[\n']
    total = 0
    while total < size:
        comma = b"," if total else b""
        lines.append(comma + _compact(_pod(dice, len(lines))) + b"\n")
        total += len(lines[-1])
    return b"".join([*lines, b"]}\n"])


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _metadata(dice: random.Random, name: str) -> dict[str, object]:
    uid = f"{dice.getrandbits(32):08x}-{dice.getrandbits(16):04x}-4c8c-9c56-0d5c5ac8"
    labels: dict[str, object] = {"f:labels": {".": {}, "f:app": {}}}
    fields: dict[str, object] = {"f:metadata": labels, "f:spec": {}}
    managed = {"manager": "kubectl", "operation": "Update", "fieldsV1": fields}
    return {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(dice.randrange(10**6, 10**7)),
        "creationTimestamp": "2026-11-22T10:30:34Z",
        "labels": {"app": "web", "pod-template-hash": f"{dice.getrandbits(40):010x}"},
        "managedFields": [managed],
    }


def _pod(dice: random.Random, number: int) -> dict[str, object]:
    variables = [
        {"name": f"SETTING_{i}", "value": f"{dice.getrandbits(64):016x}"}
        for i in range(40)
    ]
    address = f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}"
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": "2026-11-22T10:30:35Z"}
        for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "web",
        "image": f"registry.example/web@sha256:{dice.getrandbits(256):064x}",
        "env": variables,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "terminationMessagePath": "/dev/termination-log",
    }
    return {
        "metadata": _metadata(dice, f"web-{number}"),
        "spec": {"containers": [container], "nodeName": f"node-{number % 100}"},
        "status": {"phase": "Running", "conditions": conditions, "podIP": address},
    }
