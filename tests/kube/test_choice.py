"""Which cluster and user flags and files lead to, and what is complained of.

Expectations: facts A1 (inherited flags) and A5; client-go's TestInsecureOverridesCA,
TestCAOverridesCAData, TestTLSServerName*, TestFullImpersonateConfig, TestProxyURL,
TestClientCertOverrideData, TestDisableCompression and its validation tests; the real
kubectl for every text.
"""

from pathlib import Path
from typing import Any

import pytest

from pyproxy.kube.config import AccessError, ClientFlags, load
from pyproxy.kube.config.choice import Choice, choose
from pyproxy.kube.config.kubeconfig import load_files
from tests.fakes.apiserver import authority
from tests.fakes.kubectl import Document, ask, environment, one_context, write

pytestmark = pytest.mark.live

EXEC = {
    "command": "login",
    "apiVersion": "client.authentication.k8s.io/v1",
    "interactiveMode": "Never",
}


def chosen(directory: Path, document: Document, **flags: Any) -> Choice:
    """Return what is chosen from one file."""
    file = str(write(directory / "config", document))
    said = ClientFlags(kubeconfig=file, **flags)
    return choose(load_files(file, {})[0], said, {})


def test_server_flag_clears_the_files_server_name(tmp_path: Path) -> None:
    document = one_context({"server": "https://a", "tls-server-name": "name"}, {})
    kept = chosen(tmp_path, document).cluster
    assert (kept.server, kept.tls_server_name) == ("https://a", "name")
    other = chosen(tmp_path, document, server="https://b").cluster
    assert (other.server, other.tls_server_name) == ("https://b", "")
    both = chosen(tmp_path, document, server="https://b", tls_server_name="n").cluster
    assert both.tls_server_name == "n"


def test_insecure_flag_clears_authorities_and_an_authority_clears_insecure(
    tmp_path: Path,
) -> None:
    (tmp_path / "ca").touch()
    cluster = {"server": "https://a", "certificate-authority-data": "Q0E="}
    found = chosen(
        tmp_path, one_context(cluster, {}), insecure_skip_tls_verify=True
    ).cluster
    assert found.insecure_skip_tls_verify
    assert (found.certificate_authority, found.certificate_authority_data) == ("", b"")
    cluster["insecure-skip-tls-verify"] = True  # type: ignore[assignment]
    file = str(tmp_path / "ca")
    found = chosen(
        tmp_path, one_context(cluster, {}), certificate_authority=file
    ).cluster
    assert not found.insecure_skip_tls_verify
    assert (found.certificate_authority, found.certificate_authority_data) == (
        file,
        b"",
    )


def test_certificate_flags_replace_data(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    user = {"client-certificate-data": "Q0E=", "client-key-data": "Q0E="}
    file = str(tmp_path / "file")
    found = chosen(
        tmp_path, one_context({}, user), client_certificate=file, client_key=file
    ).user
    assert (found.client_certificate, found.client_certificate_data) == (file, b"")
    assert (found.client_key, found.client_key_data) == (file, b"")


def test_flags_name_other_entries(tmp_path: Path) -> None:
    document = one_context({"server": "https://a"}, {"token": "a"}, namespace="na")
    document["clusters"].append({"name": "d", "cluster": {"server": "https://d"}})
    document["users"].append({"name": "v", "user": {"token": "v"}})
    document["contexts"].append(
        {"name": "y", "context": {"cluster": "d", "user": "v", "namespace": "ny"}}
    )
    found = chosen(tmp_path, document, context="y")
    assert (found.context_name, found.cluster.server) == ("y", "https://d")
    assert (found.user.token, found.context.namespace) == ("v", "ny")
    found = chosen(tmp_path, document, cluster="d", user="v", namespace="flag")
    assert (found.cluster_name, found.cluster.server) == ("d", "https://d")
    assert (found.user_name, found.user.token) == ("v", "v")
    assert found.context.namespace == "flag"


def test_impersonation_flags_join_those_of_the_file(tmp_path: Path) -> None:
    user = {
        "as": "file",
        "as-uid": "1",
        "as-groups": ["f"],
        "as-user-extra": {"a": ["1"], "b": ["2"]},
    }
    found = chosen(
        tmp_path,
        one_context({}, user),
        as_="flag",
        as_groups=("g", "h"),
        as_user_extra=("b=3", "c=4", "c=5", "no equals sign"),
    ).user
    assert (found.as_, found.as_uid, found.as_groups) == ("flag", "1", ("g", "h"))
    assert found.as_user_extra == {"a": ("1",), "b": ("3",), "c": ("4", "5")}


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("", 0), ("5", 5), ("1m30s", 90), ("-1s", 1)]
)
def test_request_timeout_is_seconds_or_a_duration(
    tmp_path: Path, text: str, seconds: float
) -> None:
    file = str(write(tmp_path / "config", {}))
    flags = ClientFlags(kubeconfig=file, request_timeout=text)
    assert load(flags, {}).request_timeout_s == seconds


def test_repr_of_flags_has_no_values() -> None:
    flags = ClientFlags(token="hunter2", password="hunter2", as_="x")
    assert repr(flags) == "<ClientFlags token as_ password>"


# ------------------------------------------------------------- kubectl as oracle

GONE = {"certificate-authority": "gone", "proxy-url": "ftp://x"}
MUDDLED = {"token": "t", "username": "b", "client-certificate": "gone", "as-uid": "1"}
BOTH = {"certificate-authority": "file", "certificate-authority-data": "Q0E="}
HTTPS = "https://127.0.0.1:1"

COMPLAINTS = [
    pytest.param({}, {"token": "t"}, ["--context", "nosuch"], id="no context"),
    pytest.param({}, {"token": "t"}, ["--cluster", "nosuch"], id="no cluster"),
    pytest.param({}, {"token": "t"}, ["--user", "nosuch"], id="no user"),
    pytest.param(
        {},
        {"token": "t"},
        ["--user", "no", "--context", "no"],
        id="user before context",
    ),
    pytest.param({}, {"token": "t"}, ["--kubeconfig", "/gone"], id="no file"),
    pytest.param({}, {"token": "t"}, ["--password", "p"], id="token and password"),
    pytest.param({}, {"token": "t"}, ["--as-group", "g"], id="group of nobody"),
    pytest.param({}, {"token": "t"}, ["--request-timeout", "soon"], id="no duration"),
    pytest.param(
        {}, {"token": "t"}, ["--certificate-authority", "gone"], id="no CA file"
    ),
    pytest.param(GONE, MUDDLED, [], id="everything at once"),
    pytest.param(
        GONE, MUDDLED, ["--insecure-skip-tls-verify"], id="CA cleared by a flag"
    ),
    pytest.param(BOTH, {"token": "t"}, [], id="CA twice"),
    pytest.param(
        {},
        {
            "client-certificate": "file",
            "client-certificate-data": "Q0E=",
            "client-key": "file",
            "client-key-data": "Q0E=",
        },
        [],
        id="certificate and key twice",
    ),
    pytest.param({}, {"client-certificate-data": "Q0E="}, [], id="no key"),
    pytest.param(
        {},
        {"client-certificate-data": "Q0E=", "client-key-data": "Q0E="},
        [],
        id="certificate is not PEM",
    ),
    pytest.param({}, {"tokenFile": "gone"}, [], id="no token file"),
    pytest.param(
        {}, {"tokenFile": "file", "username": "b"}, [], id="token file and user name"
    ),
    pytest.param(
        {"certificate-authority-data": "Q0E="}, {"token": "t"}, [], id="CA is not PEM"
    ),
    pytest.param(
        {"certificate-authority-data": "Q0E=", "insecure-skip-tls-verify": True},
        {"token": "t"},
        [],
        id="CA and insecure",
    ),
    pytest.param(
        {"proxy-url": "http://[bad"}, {"token": "t"}, [], id="no URL for a proxy"
    ),
    pytest.param(
        {"proxy-url": "localhost:3128"}, {"token": "t"}, [], id="no scheme for a proxy"
    ),
    pytest.param({}, {"exec": {**EXEC, "command": ""}}, [], id="exec: no command"),
    pytest.param({}, {"exec": {**EXEC, "interactiveMode": ""}}, [], id="exec: no mode"),
    pytest.param(
        {}, {"exec": {**EXEC, "interactiveMode": "Often"}}, [], id="exec: odd mode"
    ),
    pytest.param({}, {"exec": {}}, [], id="exec: nothing"),
    pytest.param(
        {},
        {"exec": {**EXEC, "env": [{"value": "x"}]}, "auth-provider": {"name": "oidc"}},
        [],
        id="exec: variable without a name, and a provider",
    ),
    pytest.param(
        {},
        {"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
        [],
        id="exec: old version",
    ),
    pytest.param({}, {"auth-provider": {"name": "gcp"}}, [], id="gcp"),
    pytest.param({}, {"auth-provider": {"name": "azure"}}, [], id="azure"),
    pytest.param({}, {"auth-provider": {"name": "other"}}, [], id="other provider"),
]


@pytest.mark.parametrize(("cluster", "user", "arguments"), COMPLAINTS)
def test_complaint_is_kubectls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: Document,
    user: Document,
    arguments: list[str],
) -> None:
    # Oracle: the stderr of kubectl proxy, to the letter.
    (tmp_path / "file").write_text("t")
    file = write(tmp_path / "config", one_context({"server": HTTPS, **cluster}, user))
    env = environment(tmp_path, KUBECONFIG=str(file))
    code, _, theirs = ask("proxy", "--port=0", *arguments, env=env, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AccessError) as caught:
        load(flags_of(arguments), env)
    assert (caught.value.text, caught.value.exit_code) == (theirs.rstrip("\n"), code)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"current-context": "lost"}, id="alone"),
        pytest.param(
            {**one_context({}, {"as-uid": "1"}), "current-context": "lost"}, id="more"
        ),
    ],
)
def test_lost_current_context_is_reported_as_kubectl_does(
    tmp_path: Path, document: Document
) -> None:
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    _, _, theirs = ask("proxy", "--port=0", env=env)
    with pytest.raises(AccessError) as caught:
        load(ClientFlags(), env)
    assert caught.value.text == theirs.rstrip("\n")


def test_password_in_a_proxy_url_is_not_repeated(tmp_path: Path) -> None:
    # kubectl does.
    cluster = {"server": HTTPS, "proxy-url": "ftp://me:hunter2@proxy"}
    with pytest.raises(AccessError) as caught:
        chosen(tmp_path, one_context(cluster, {}))
    assert "ftp://…@proxy" in caught.value.text
    assert "hunter2" not in caught.value.text


def test_wrong_key_is_refused(tmp_path: Path) -> None:
    # kubectl starts, and then fails at every request.
    signer = authority(tmp_path)
    signer.issue("a", ["a"])
    signer.issue("b", ["b"])
    user = {"client-certificate": "a.crt", "client-key": "b.key"}
    file = write(tmp_path / "config", one_context({"server": HTTPS}, user))
    with pytest.raises(AccessError, match="private key does not match public key"):
        load(ClientFlags(kubeconfig=str(file)), {})


def flags_of(arguments: list[str]) -> ClientFlags:
    """Return what the mode's command line would make of them."""
    said: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name == "insecure_skip_tls_verify":
            said[name] = True
        elif name == "as_group":
            said["as_groups"] = (*said.get("as_groups", ()), next(words))
        else:
            said[name] = next(words)
    return ClientFlags(**said)
