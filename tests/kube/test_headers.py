"""What is sent to an apiserver, beside what the real kubectl proxy sends.

Expectations: facts A5; client-go's TestBearerAuth-, TestBasicAuth-, TestImpersonation-
and TestHeaderEscapeRoundTrip; and a server that records the requests of kubectl proxy.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.kube.config import Access, AccessError, ClientFlags, load, user_agent
from pyproxy.kube.config.headers import basic, bearer, escape, impersonation
from pyproxy.kube.config.kubeconfig import User
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

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
OURS = ("Authorization", "Impersonate-")  # what credentials are made of


@given(st.text())
def test_escaped_key_is_a_header_name_and_comes_back(key: str) -> None:
    assert TOKEN.fullmatch(escape(key))
    assert unquote(escape(key)) == key


@pytest.mark.parametrize(
    ("key", "escaped"),
    [
        # client-go, TestHeaderEscapeRoundTrip: its cases, by their names
        ("alpha", "alpha"),
        ("alpha.numeric1", "alpha.numeric1"),
        ("iam.gke.io/user-assertion", "iam.gke.io%2Fuser-assertion"),
        ("%", "%25"),
        ("§", "%C2%A7"),
        ("a b:c", "a%20b%3Ac"),
    ],
)
def test_key_is_escaped_as_client_go_does(key: str, escaped: str) -> None:
    assert escape(key) == escaped


@given(st.text())
def test_header_value_is_latin1_of_utf8_or_refused(text: str) -> None:
    try:
        pairs = impersonation(User(as_=text))
    except AccessError as error:
        assert "characters" in str(error)  # noqa: PT017
        return
    if text:
        assert pairs[0][1].encode("latin-1").decode() == text


@pytest.mark.parametrize("bad", ["a\nb", "a\r\nX: y", "a\x00", "a\x7f"])
def test_value_that_would_split_a_head_is_refused_and_not_quoted(bad: str) -> None:
    with pytest.raises(ValueError, match="token: has characters") as caught:
        bearer(f"hunter2{bad}hunter2")
    assert "hunter2" not in str(caught.value)
    for user in (
        User(as_=bad),
        User(as_="a", as_uid=bad),
        User(as_="a", as_groups=(bad,)),
        User(as_="a", as_user_extra={"k": (bad,)}),
    ):
        with pytest.raises(AccessError, match="header cannot carry"):
            impersonation(user)


def test_nobody_is_impersonated_without_a_name() -> None:
    assert impersonation(User(as_groups=("g",))) == ()


def test_space_around_a_token_is_dropped() -> None:
    # kubectl sends one in front, and the apiserver then sees no token at all.
    assert bearer(" abc ") == "Bearer abc"


def test_basic_is_utf8_in_base64() -> None:
    # RFC 7617 2.1
    assert basic("test", "123£") == "Basic dGVzdDoxMjPCow=="


# ------------------------------------------------------------- kubectl as oracle


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    """Signs the apiserver and a client."""
    made = authority(tmp_path / "pki")
    made.issue("server", ["127.0.0.1", "localhost", "other.test"])
    made.issue("client", ["client"])
    return made


@pytest.fixture
def apiserver(signer: Authority) -> Iterator[Recorder]:
    """A TLS server that asks clients for a certificate and takes none, too."""
    pair = signer.issue("server", ["127.0.0.1", "localhost", "other.test"])
    with Recorder(pair, signer.certificate) as server:
        yield server


def trusted(apiserver: Recorder, signer: Authority, **more: object) -> Document:
    """Return a cluster entry for it."""
    file = str(signer.certificate)
    return {"server": apiserver.url, "certificate-authority": file, **more}


async def ours(access: Access) -> list[tuple[str, str]]:
    """Return the headers that a proxy would add, names in Go's spelling, sorted."""
    added = (*await access.credentials.headers(), *access.impersonation)
    return sorted(("-".join(map(_title, n.split("-"))), value) for n, value in added)


def _title(word: str) -> str:
    return word[:1].upper() + word[1:].lower()


def seen(server: Recorder) -> list[tuple[str, str]]:
    """Return those that kubectl proxy added."""
    return sorted(pair for pair in server.headers() if pair[0].startswith(OURS))


def through_kubectl(env: Mapping[str, str], *flags: str, **headers: str) -> None:
    """Send one request."""
    with KubectlProxy(*flags, env=env) as proxy:
        status, body = proxy.get("/api", **headers)
        assert (status, body) == (200, "fake\n")


USERS = [
    pytest.param({"token": "abc.def"}, id="token"),
    pytest.param({"tokenFile": "token"}, id="token file"),
    pytest.param({"token": "lost", "tokenFile": "token"}, id="file before token"),
    pytest.param({"token": "kept", "tokenFile": "gone"}, id="token before no file"),
    pytest.param({"username": "me", "password": "p:w£"}, id="basic"),
    pytest.param({"username": "me"}, id="basic without password"),
    pytest.param(
        {"client-certificate": "pki/client.crt", "client-key": "pki/client.key"},
        id="certificate",
    ),
    pytest.param(
        {
            "token": "t",
            "client-certificate": "pki/client.crt",
            "client-key": "pki/client.key",
        },
        id="certificate and token",
    ),
    pytest.param(
        {
            "token": "t",
            "as": "jürgen",
            "as-uid": "7",
            "as-groups": ["g 1", "g,2"],
            "as-user-extra": {"Scopes": ["a", "b"], "x.io/K%§": ["c"]},
        },
        id="impersonation",
    ),
]


@pytest.mark.parametrize("user", USERS)
async def test_credentials_are_those_that_kubectl_sends(
    tmp_path: Path, apiserver: Recorder, signer: Authority, user: Document
) -> None:
    (tmp_path / "token").write_text(" from-file\n")
    document = one_context(trusted(apiserver, signer), user)
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    through_kubectl(env)
    access = load(ClientFlags(), env)
    assert await ours(access) == seen(apiserver)
    assert access.tls is not None
    assert bool(access.tls.certificate) == (apiserver.subjects[-1] == "client")
    assert access.tls.ca == signer.certificate.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        pytest.param(["--token=flag"], ClientFlags(token="flag"), id="token"),
        pytest.param(["--user=v"], ClientFlags(user="v"), id="user"),
        pytest.param(
            ["--as=me", "--as-group=a", "--as-group=b", "--as-uid=9"],
            ClientFlags(as_="me", as_groups=("a", "b"), as_uid="9"),
            id="impersonation",
        ),
    ],
)
async def test_flags_change_what_kubectl_sends(
    tmp_path: Path,
    apiserver: Recorder,
    signer: Authority,
    arguments: list[str],
    flags: ClientFlags,
) -> None:
    document = one_context(trusted(apiserver, signer), {"token": "u"})
    document["users"].append({"name": "v", "user": {"token": "v", "as": "w"}})
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    through_kubectl(env, *arguments)
    assert await ours(load(flags, env)) == seen(apiserver)


async def test_token_flag_loses_to_a_token_file_as_with_kubectl(
    tmp_path: Path, apiserver: Recorder, signer: Authority
) -> None:
    (tmp_path / "token").write_text("from-file")
    document = one_context(trusted(apiserver, signer), {"tokenFile": "token"})
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    through_kubectl(env, "--token=flag")
    assert await ours(load(ClientFlags(token="flag"), env)) == seen(apiserver)


async def test_http_server_gets_no_credentials(tmp_path: Path) -> None:
    # kubectl reads users only when the wire is secure; impersonation is not of them.
    user = {"token": "t", "as": "me"}
    with Recorder() as server:
        document = one_context({"server": server.url}, user)
        env = environment(
            tmp_path, KUBECONFIG=str(write(tmp_path / "config", document))
        )
        through_kubectl(env)
        access = load(ClientFlags(), env)
        assert await ours(access) == seen(server) == [("Impersonate-User", "me")]
        assert access.tls is None
        through_kubectl(env, f"--server={server.url}", "--token=flag")
        flags = ClientFlags(server=server.url, token="flag")
        assert await ours(load(flags, env)) == seen(server)


@pytest.mark.parametrize(
    ("server", "name"),
    [("127.0.0.1", ""), ("localhost", ""), ("127.0.0.1", "other.test")],
)
def test_server_name_is_the_one_that_kubectl_asks_for(
    tmp_path: Path, apiserver: Recorder, signer: Authority, server: str, name: str
) -> None:
    cluster = trusted(apiserver, signer, **{"tls-server-name": name})
    cluster["server"] = f"https://{server}:{apiserver.address.port}"
    document = one_context(cluster, {"token": "t"})
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    through_kubectl(env)
    tls = load(ClientFlags(), env).tls
    assert tls is not None
    # Addresses are verified, and never sent as a name (RFC 6066 3).
    asked = None if tls.server_name == "127.0.0.1" else tls.server_name
    assert apiserver.names[-1] == asked


def test_user_agent_has_the_form_of_kubectls(
    tmp_path: Path, apiserver: Recorder, signer: Authority
) -> None:
    document = one_context(trusted(apiserver, signer), {"token": "t"})
    env = environment(tmp_path, KUBECONFIG=str(write(tmp_path / "config", document)))
    through_kubectl(env)
    theirs = dict(apiserver.headers())["User-Agent"]
    form = re.compile(r"[a-z]+/v?[0-9][^ ]* (\([a-z]+/[a-z0-9]+\))")
    one, other = form.match(theirs), form.match(user_agent())
    assert one is not None
    assert other is not None
    assert one[1] == other[1]
