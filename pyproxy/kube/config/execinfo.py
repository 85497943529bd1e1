"""What a credential plugin is told, and what it must answer (client.authentication).

Both are an ExecCredential: with a spec in the environment of the plugin, with a status
on its stdout. Nothing of the answer is ever quoted: it holds credentials.
"""

import base64
from dataclasses import dataclass
from typing import Any

import msgspec

from pyproxy import pem
from pyproxy.kube.config.credentials import Identity, Pair
from pyproxy.kube.config.document import convert, parse
from pyproxy.kube.config.errors import neutral
from pyproxy.kube.config.headers import bearer
from pyproxy.kube.config.kubeconfig import Cluster
from pyproxy.kube.config.moment import seconds_of

EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster: for its plugins


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin gave us."""

    identity: Identity
    expires_at: float | None  # seconds since 1970; None = when it is rejected


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: str | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _Status | None = None


def exec_info(
    api_version: str, cluster: Cluster | None, authority: bytes, *, interactive: bool
) -> str:
    """Return the value of KUBERNETES_EXEC_INFO; a cluster only if it was asked for."""
    spec: dict[str, object] = {}
    if cluster is not None:
        spec["cluster"] = _cluster_info(cluster, authority)
    spec["interactive"] = interactive
    answer = {"kind": "ExecCredential", "apiVersion": api_version, "spec": spec}
    return msgspec.json.encode(answer).decode()


def _cluster_info(cluster: Cluster, authority: bytes) -> dict[str, object]:
    extensions = {each.name: each.extension for each in cluster.extensions}
    fields: dict[str, object] = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(authority).decode(),
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
    }
    said = {name: value for name, value in fields.items() if value or name == "server"}
    return {**said, "config": extensions.get(EXTENSION)}


def read_answer(output: bytes, api_version: str) -> Credential:
    """Return the credential that was printed. Raise ValueError saying why not."""
    try:
        answer = convert(_parse(output), _Answer)
    except ValueError as error:
        raise ValueError(f"decoding stdout: {error}") from None
    # client-go fills a kind in that is not there, but no version.
    if answer.kind not in ("", "ExecCredential"):
        raise ValueError("decoding stdout: not an ExecCredential")
    if answer.api_version != api_version:
        raise ValueError(
            f"exec plugin is configured to use API version {api_version}, plugin"
            f" returned version {neutral(answer.api_version)[:80]}"
        )
    status = answer.status
    if status is None:
        raise ValueError("exec plugin didn't return a status field")
    pair = _pair(status)
    if not status.token and pair is None:
        raise ValueError("exec plugin didn't return a token or cert/key pair")
    authorization = bearer(status.token) if status.token else ""
    identity = Identity(authorization, pair)
    return Credential(identity, _moment(status.expiration_timestamp))


def _parse(output: bytes) -> dict[str, Any]:
    """What begins as JSON is JSON, to its end, and never YAML."""
    if output.lstrip()[:1] != b"{":
        return parse(output)
    try:
        return msgspec.json.decode(output, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("json: not readable") from None


def _pair(status: _Status) -> Pair | None:
    certificate, key = status.client_certificate_data, status.client_key_data
    if bool(certificate) != bool(key):
        raise ValueError("exec plugin returned only certificate or key, not both")
    if not certificate:
        return None
    try:
        return pem.pair(certificate.encode(), key.encode())
    except ValueError as error:
        raise ValueError(f"failed parsing client key/certificate: {error}") from None


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return seconds_of(text)
    except ValueError:
        raise ValueError("decoding stdout: expirationTimestamp is no time") from None
