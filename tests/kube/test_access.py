"""The facts about one apiserver, and where they come from when nobody said.

Expectations: facts A1, A5; client-go's TestInClusterClientConfigPrecedence,
TestInClusterConfig; the real kubectl; and the official Python client for kubeconfigs
that it reads as kubectl does.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from pyproxy.kube.config import (
    AccessError,
    ClientFlags,
    ContextEntry,
    contexts,
    incluster,
    load,
)
from pyproxy.kube.config.files import read
from pyproxy.kube.config.server import Server, parse_server
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.kubectl import (
    Document,
    KubectlProxy,
    Recorder,
    environment,
    one_context,
    write,
)

pytestmark = pytest.mark.live

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    """Signs a client."""
    made = authority(tmp_path / "pki")
    made.issue("client", ["client"])
    return made


def from_file(directory: Path, document: Document, **flags: Any) -> Any:
    """Load one kubeconfig."""
    file = write(directory / "config", document)
    return load(ClientFlags(kubeconfig=str(file), **flags), {})


@pytest.mark.parametrize(
    ("text", "server", "authority_"),
    [
        ("https://h", Server("https", "h", 443), "h"),
        ("https://h:6443/", Server("https", "h", 6443), "h:6443"),
        ("HTTPS://H:443", Server("https", "h", 443), "h"),
        ("http://h", Server("http", "h", 80), "h"),
        ("https://h/k8s/c-1/", Server("https", "h", 443, "/k8s/c-1"), "h"),
        ("https://h/a%2Fb?q#f", Server("https", "h", 443, "/a/b"), "h"),
        ("https://[::1]", Server("https", "::1", 443), "[::1]"),
        ("https://[fd00::1]:6443", Server("https", "fd00::1", 6443), "[fd00::1]:6443"),
        ("https://[fe80::1%25e]:1", Server("https", "fe80::1%e", 1), "[fe80::1]:1"),
        (
            "https://bücher.test",
            Server("https", "xn--bcher-kva.test", 443),
            "xn--bcher-kva.test",
        ),
        ("h:8080", Server("http", "h", 8080), "h:8080"),
        ("10.0.0.1", Server("http", "10.0.0.1", 80), "10.0.0.1"),
        ("https://me:hunter2@h", Server("https", "h", 443), "h"),
    ],
)
def test_server_is_taken_apart(text: str, server: Server, authority_: str) -> None:
    found = parse_server(text)
    assert found == server
    assert found.authority == authority_
    if "%" not in found.host:  # a zone is ours, nobody is told
        assert parse_server(found.url) == found


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h",
        "https://",
        "https://h:port",
        "https://h:70000",
        "https://[::1",
        "unix:///run/x",
        "https://a b",
        "https://me:hunter2@:1",
        "https://me:hunter2@h:port",
    ],
)
def test_server_that_cannot_be_dialled_is_refused(text: str) -> None:
    with pytest.raises(AccessError, match=r"server |host must be") as caught:
        parse_server(text)
    assert "hunter2" not in str(caught.value)


def test_facts_of_a_whole_kubeconfig(tmp_path: Path, signer: Authority) -> None:
    cluster = {
        "server": "https://10.0.0.1:6443/base/",
        "certificate-authority": "pki/ca.crt",
        "tls-server-name": "kubernetes",
        "proxy-url": "socks5://proxy:1080",
        "disable-compression": True,
    }
    user = {
        "client-certificate": "pki/client.crt",
        "client-key": "pki/client.key",
        "as": "me",
    }
    access = from_file(tmp_path, one_context(cluster, user, namespace="ns"))
    assert access.server == Server("https", "10.0.0.1", 6443, "/base")
    assert access.tls.ca == signer.certificate.read_bytes()
    assert access.tls.certificate == (tmp_path / "pki/client.crt").read_bytes()
    assert access.tls.key == (tmp_path / "pki/client.key").read_bytes()
    assert (access.tls.server_name, access.tls.verify) == ("kubernetes", True)
    assert access.proxy_url == "socks5://proxy:1080"
    assert access.impersonation == (("Impersonate-User", "me"),)
    assert (access.context, access.namespace) == ("x", "ns")
    assert access.disable_compression
    assert access.files == (str(tmp_path / "config"),)
    assert access.warnings == ()


def test_repr_has_no_secret(tmp_path: Path, signer: Authority) -> None:
    key = (tmp_path / "pki/client.key").read_text()
    user = {
        "token": "hunter2",
        "client-certificate": "pki/client.crt",
        "client-key": "pki/client.key",
    }
    cluster = {"server": "https://h", "proxy-url": "http://me:hunter2@proxy"}
    access = from_file(tmp_path, one_context(cluster, user))
    shown = repr(access) + repr(access.tls) + repr(access.origin)
    assert "hunter2" not in shown
    assert key.splitlines()[1] not in shown


def test_insecure_verifies_nothing_and_system_trust_has_no_ca(tmp_path: Path) -> None:
    cluster = {"server": "https://h", "insecure-skip-tls-verify": True}
    tls = from_file(tmp_path, one_context(cluster, {"token": "t"})).tls
    assert (tls.ca, tls.verify, tls.server_name) == (None, False, "h")


def test_empty_ca_file_trusts_nobody(tmp_path: Path) -> None:
    # Since 1.36; it was everybody whom the system trusts before.
    (tmp_path / "ca").touch()
    cluster = {"server": "https://h", "certificate-authority": "ca"}
    assert from_file(tmp_path, one_context(cluster, {"token": "t"})).tls.ca == b""


def test_nobody_is_warned_of(tmp_path: Path) -> None:
    # kubectl asks for a name and a password, and ends when nobody is there to answer.
    access = from_file(tmp_path, one_context({"server": "https://h"}, {}))
    assert access.warnings == (
        'user "u" has no credentials: requests go out as nobody',
    )


@pytest.mark.parametrize("listed", ["", "/gone"])
def test_without_anything_it_is_port_8080_of_this_machine(
    tmp_path: Path, listed: str
) -> None:
    access = load(ClientFlags(), environment(tmp_path, KUBECONFIG=listed))
    assert access.server == Server("http", "localhost", 8080)
    # kubectl says nothing, and each request then fails.
    (said,) = [each for each in access.warnings if "no server is named" in each]
    assert "$KUBERNETES_MASTER or " in said
    assert said.endswith(": using http://localhost:8080")
    assert access.tls is None
    assert access.warnings[:-1] == (("Config not found: /gone",) if listed else ())
    env = environment(tmp_path, KUBERNETES_MASTER="http://other:81")
    assert load(ClientFlags(), env).server == Server("http", "other", 81)


def test_contexts_are_listed_in_order_with_their_servers(tmp_path: Path) -> None:
    first = one_context({"server": "https://a"}, {}, namespace="n")
    second = {
        "clusters": [{"name": "d", "cluster": {"server": "https://d"}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "d"}},
            {"name": "w", "context": {"cluster": "d", "user": "v"}},
            {"name": "v", "context": {"cluster": "lost"}},
        ],
    }
    files = [write(tmp_path / n, d) for n, d in (("1", first), ("2", second))]
    env = environment(tmp_path, KUBECONFIG=":".join(map(str, files)))
    assert contexts(ClientFlags(), env) == (
        ContextEntry("x", "c", "u", "n", "https://a", True),
        ContextEntry("w", "d", "v", "default", "https://d", False),
        ContextEntry("v", "lost", "", "default", "", False),
    )
    assert [each.current for each in contexts(ClientFlags(context="v"), env)] == [
        False,
        False,
        True,
    ]


# ------------------------------------------------------------------ in a pod


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the service account is mounted."""
    mount = tmp_path / "serviceaccount"
    authority(mount)
    (mount / "token").write_text("sa-token\n")
    monkeypatch.setattr(incluster, "MOUNT", str(mount))
    return mount


async def test_pod_without_kubeconfig_uses_its_service_account(
    tmp_path: Path, pod: Path
) -> None:
    access = load(ClientFlags(), environment(tmp_path, **POD))
    assert access.server == Server("https", "10.0.0.1", 443)
    assert await access.credentials.headers() == (("Authorization", "Bearer sa-token"),)
    assert access.tls is not None
    assert access.tls.ca == (pod / "ca.crt").read_bytes()
    assert access.credentials.refreshable


@pytest.mark.usefixtures("pod")
def test_address_of_ipv6_is_bracketed(tmp_path: Path) -> None:
    env = environment(tmp_path, **{**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert load(ClientFlags(), env).server.url == "https://[fd00::1]"


async def test_flags_win_in_a_pod(tmp_path: Path, pod: Path) -> None:
    # client-go, TestInClusterClientConfigPrecedence: token and CA. That --as is heeded
    # is better than kubectl, which goes to localhost:8080 then.
    other = authority(tmp_path / "other")
    flags = ClientFlags(
        token="flag",
        certificate_authority=str(other.certificate),
        as_="me",
        request_timeout="5s",
        disable_compression=True,
    )
    access = load(flags, environment(tmp_path, **POD))
    assert access.server.host == "10.0.0.1"
    assert await access.credentials.headers() == (("Authorization", "Bearer flag"),)
    assert access.tls is not None
    assert access.tls.ca == other.certificate.read_bytes()
    assert access.impersonation == (("Impersonate-User", "me"),)
    assert access.disable_compression


@pytest.mark.usefixtures("pod")
def test_service_account_is_for_the_pods_own_apiserver_only(tmp_path: Path) -> None:
    env = environment(tmp_path, **POD)
    access = load(ClientFlags(server="https://other"), env)
    assert access.server.host == "other"
    assert access.credentials.are_none


@pytest.mark.usefixtures("pod")
def test_kubeconfig_wins_in_a_pod(tmp_path: Path) -> None:
    file = write(tmp_path / "config", one_context({"server": "http://h"}, {}))
    env = environment(tmp_path, KUBECONFIG=str(file), **POD)
    assert load(ClientFlags(), env).server == Server("http", "h", 80)


@pytest.mark.parametrize("content", [None, "", "rubbish"])
def test_pod_without_ca_trusts_the_system_and_says_so(
    tmp_path: Path, pod: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (pod / "ca.crt").unlink()
    if content is not None:
        (pod / "ca.crt").write_text(content)
    access = load(ClientFlags(), environment(tmp_path, **POD))
    assert access.tls is not None
    assert access.tls.ca is None
    assert [each.levelname for each in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("missing", ["token", "host", "port", "directory"])
def test_half_a_pod_is_none(tmp_path: Path, pod: Path, missing: str) -> None:
    env = environment(tmp_path, **POD)
    if missing in ("token", "directory"):
        (pod / "token").unlink()
    if missing == "directory":
        (pod / "token").mkdir()
    env.pop(f"KUBERNETES_SERVICE_{missing.upper()}", None)
    assert load(ClientFlags(), env).server.host == "localhost"


def test_official_client_is_imported_in_a_pod_only() -> None:
    # 0.2 s and 22 MB beyond aiohttp, which nobody else should pay.
    code = "import sys, pyproxy.kube.config; print('kubernetes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# ----------------------------------------------------- the official client as oracle


async def test_official_client_finds_the_same(
    tmp_path: Path, signer: Authority
) -> None:
    # One file, one context, each field once: there it agrees with kubectl.
    cluster = {
        "server": "https://10.0.0.1:6443/base",
        "certificate-authority": "pki/ca.crt",
        "tls-server-name": "kubernetes",
        "proxy-url": "http://proxy:3128",
    }
    user = {
        "token": "abc",
        "client-certificate": "pki/client.crt",
        "client-key": "pki/client.key",
    }
    file = write(tmp_path / "config", one_context(cluster, user))
    theirs: Any = Configuration()
    await load_kube_config(str(file), client_configuration=theirs)  # type: ignore[no-untyped-call]
    access = load(ClientFlags(kubeconfig=str(file)), {})
    assert access.tls is not None
    assert theirs.host == access.server.url
    assert (
        ("Authorization", theirs.api_key["BearerToken"]),
    ) == await access.credentials.headers()
    assert read(theirs.ssl_ca_cert) == access.tls.ca
    assert read(theirs.cert_file) == access.tls.certificate
    assert read(theirs.key_file) == access.tls.key
    assert theirs.tls_server_name == access.tls.server_name
    assert (theirs.verify_ssl, theirs.proxy) == (True, access.proxy_url)


# ------------------------------------------------------------------ kubectl as oracle


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """An HTTP server that takes every request, also for other servers."""
    with Recorder() as server:
        yield server


@pytest.mark.parametrize(
    ("server", "proxy_url", "env"),
    [
        pytest.param("http://far.test", "PROXY", {}, id="proxy-url"),
        pytest.param("http://127.0.0.1:1", "PROXY", {}, id="proxy-url for loopback"),
        pytest.param("http://far.test", "", {"HTTP_PROXY": "PROXY"}, id="environment"),
        pytest.param("http://far.test", "", {"http_proxy": "PROXY"}, id="lower case"),
        pytest.param(
            "http://far.test", "PROXY", {"NO_PROXY": "*"}, id="proxy-url is not exempt"
        ),
    ],
)
def test_proxy_is_the_one_that_kubectl_uses(
    tmp_path: Path,
    recorder: Recorder,
    server: str,
    proxy_url: str,
    env: dict[str, str],
) -> None:
    proxy = recorder.url
    cluster = {"server": server, "proxy-url": proxy_url.replace("PROXY", proxy)}
    file = write(tmp_path / "config", one_context(cluster, {}))
    said = {name: value.replace("PROXY", proxy) for name, value in env.items()}
    full = environment(tmp_path, KUBECONFIG=str(file), **said)
    with KubectlProxy(env=full) as kubectl:
        assert kubectl.get()[0] == 200
    assert recorder.heads[0].startswith(f"GET {server}/api ".encode())
    assert load(ClientFlags(), full).proxy_url == proxy


def test_loading_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    from_file(tmp_path, one_context({"server": "https://h"}, {"token": "hunter2"}))
    assert caplog.records == []
