"""Settings, warnings, places: what of kubectl-proxy needs no core."""

import errno
import os
import re
import socket
from pathlib import Path

import pytest

from pyproxy.config import convert, masked
from pyproxy.errors import ConfigError, StartError
from pyproxy.kube.config import ClientFlags, Server
from pyproxy.modes.kubectl_proxy import place
from pyproxy.modes.kubectl_proxy.config import KubectlProxy, warnings
from pyproxy.modes.kubectl_proxy.place import EVERY, UnixPlace, hosts_of

SERVER = Server("https", "api.example", 443)
BASE = Server("https", "api.example", 443, "/base")


def said(config: KubectlProxy, server: Server = SERVER) -> str:
    """Return all warnings as one text."""
    return "\n".join(warnings(config, server))


def test_defaults_are_kubectls_and_warn_of_nothing() -> None:
    config = KubectlProxy()
    assert (config.address, config.port, config.api_prefix) == ("127.0.0.1", 8001, "/")
    assert config.www_prefix == "/static/"
    assert config.accept_hosts == r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"
    assert config.accept_paths == "^.*"
    assert config.reject_paths == "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"
    assert config.reject_methods == "^$"
    assert said(config) == ""


# Texts seen on the stderr of kubectl 1.37.1.
SERVER_PATH = (
    "Your kube context contains a server path /base, use --append-server-path to"
    " automatically append the path to each request"
)
DISABLED = (
    "Request filter disabled, your proxy is vulnerable to XSRF attacks, please be"
    " cautious"
)
RELAXED = (
    "Request filter has been relaxed, your proxy may be vulnerable to attacks, please"
    " be cautious"
)
NO_FILES = (
    "Failed to stat static file directory /nonexistent: stat /nonexistent: no such file"
    " or directory"
)
NO_DIRECTORY = "Static file directory /dev/null is not a directory"
# Ours.
OPEN = "ANYBODY WHO CAN REACH 0.0.0.0:8001 ACTS AS YOU"
PAGES = "EVERY WEB PAGE"


@pytest.mark.parametrize(
    ("config", "server", "text"),
    [
        (KubectlProxy(), BASE, SERVER_PATH),
        (KubectlProxy(disable_filter=True), SERVER, DISABLED),
        (KubectlProxy(reject_paths=""), SERVER, RELAXED),
        (KubectlProxy(reject_methods=""), SERVER, RELAXED),
        (KubectlProxy(www="/nonexistent"), SERVER, NO_FILES),
        (KubectlProxy(www="/dev/null"), SERVER, NO_DIRECTORY),
        (KubectlProxy(address="0.0.0.0"), SERVER, OPEN),
        (KubectlProxy(address=""), SERVER, OPEN),
        (KubectlProxy(address="10.0.0.1", accept_hosts=".*"), SERVER, PAGES),
        (KubectlProxy(address="::", disable_filter=True), SERVER, PAGES),
    ],
)
def test_warning_is_given_for_what_is_risky(
    config: KubectlProxy, server: Server, text: str
) -> None:
    assert text in said(config, server)


@pytest.mark.parametrize(
    ("config", "server"),
    [
        (KubectlProxy(append_server_path=True), BASE),
        (KubectlProxy(disable_filter=True, unix_socket="x"), SERVER),
        (KubectlProxy(address="::1"), SERVER),
        (KubectlProxy(address="[::1]"), SERVER),
        (KubectlProxy(address="127.0.0.1", accept_hosts=".*"), SERVER),
        (KubectlProxy(www="/"), SERVER),
    ],
)
def test_warning_is_not_given_for_nothing(config: KubectlProxy, server: Server) -> None:
    assert said(config, server) == ""


def test_open_address_with_list_of_hosts_is_warned_of_once() -> None:
    assert PAGES not in said(KubectlProxy(address="10.0.0.1"))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"apiPrefix": "custom"}, "$.apiPrefix: 'custom' does not begin with a slash"),
        (
            {"apiPrefix": "/static", "www": "/x"},
            "$.wwwPrefix: '/static/' is already the apiPrefix",
        ),
        (
            {"apiPrefix": "/contexts", "contexts": ["a"]},
            "$.contexts: '/contexts/' is already the apiPrefix",
        ),
        ({"port": 65536}, "$.port: expected int <= 65535"),
        ({"keepalive": "5"}, "$.keepalive: '5' is not a duration"),
        ({"keepAlive": "5s"}, "$.keepAlive: unknown field, did you mean keepalive?"),
        (
            {"client": {"tokn": "x"}},
            "$.client.tokn: unknown field, did you mean token?",
        ),
    ],
)
def test_document_that_cannot_be_used_names_the_place(
    document: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        convert(document, KubectlProxy)


@pytest.mark.parametrize("document", [{"apiPrefix": "/static"}, {"apiPrefix": ""}])
def test_prefix_without_rival_is_fine(document: dict[str, object]) -> None:
    convert(document, KubectlProxy)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0.0), ("1m", 60.0), ("-1s", -1.0), ("-1m30s", -90.0)]
)
def test_keepalive_has_any_sign(text: str, seconds: float) -> None:
    assert convert({"keepalive": text}, KubectlProxy).keepalive == seconds


def test_effective_configuration_shows_no_secret() -> None:
    client = ClientFlags(
        token="sesame", password="sesame", proxy_url="http://a:sesame@b"
    )
    shown = masked(KubectlProxy(client=client))
    assert "sesame" not in str(shown)
    assert shown["client"]["token"] == "***"  # type: ignore[index]
    for url, told in (
        ("https://u:sesame@h:1/x", "https://…@h:1/x"),
        ("https://sesame@h", "https://…@h"),
        ("u:sesame@h:1", "…@h:1"),
        ("https://u:se/sa@me@h", "https://…@h"),
        ("https://h:1/x", "https://h:1/x"),
        ("", ""),
    ):
        found = masked(KubectlProxy(client=ClientFlags(server=url)))["client"]
        assert found["server"] == told  # type: ignore[index]
    assert masked(KubectlProxy())["client"]["token"] == ""  # type: ignore[index]


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("[::1]", ("::1",)),
        ("[0:0:0:0:0:0:0:1]", ("::1",)),
        ("0.0.0.0", EVERY),
        ("", EVERY),
        ("[::]", EVERY),
        ("::", EVERY),
    ],
)
async def test_hosts_of_address_are_literals(address: str, hosts: tuple[str]) -> None:
    assert await hosts_of(address) == hosts


async def test_hosts_of_localhost_is_one_address() -> None:
    assert await hosts_of("localhost") in (("127.0.0.1",), ("::1",))


async def test_hosts_of_unknown_name_is_refused() -> None:
    with pytest.raises(StartError, match="listen tcp: lookup no such name: no such"):
        await hosts_of("no such name")


@pytest.mark.parametrize(
    ("shown", "local"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
    ],
)
def test_local_address_can_be_dialed(shown: str, local: str) -> None:
    assert place.local(shown) == local


def bind(path: Path) -> socket.socket:
    """Listen on a unix socket."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def test_unix_place_removes_a_stale_socket_only(tmp_path: Path) -> None:
    stale, live, file = tmp_path / "stale", tmp_path / "live", tmp_path / "file"
    bind(stale).close()
    file.touch()
    (tmp_path / "link").symlink_to(stale)
    with bind(live):
        for path in (live, file, tmp_path / "none", tmp_path / "link"):
            UnixPlace(str(path)).clear()
        assert live.exists()
        assert file.exists()
        assert stale.exists()
    UnixPlace(str(stale)).clear()
    assert not stale.exists()


def test_unix_place_removes_at_the_end_what_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    ours = UnixPlace(str(path))
    ours.remove()  # never claimed
    with bind(path):
        ours.claim()
        ours.remove()
        assert not path.exists()
    with bind(path):
        ours.claim()
        path.unlink()
    path.touch()  # somebody else's
    ours.remove()
    assert path.exists()


def test_unix_place_is_absolute_for_the_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert UnixPlace("x.sock").key == (f"unix:{tmp_path}/x.sock", 0)


def test_unix_place_is_as_given_where_only_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert UnixPlace("x.sock").key == ("unix:x.sock", 0)
    with pytest.raises(StartError, match=r"bind: invalid argument; .* 107 bytes"):
        _ = UnixPlace(f"{deep}/x.sock").key


def test_unix_place_that_is_taken_says_by_what(tmp_path: Path) -> None:
    cause = OSError(errno.EADDRINUSE, "whatever")
    with bind(tmp_path / "live"):
        for name, hint in (("live", "ss -lxp"), (".", "is no socket")):
            with (
                pytest.raises(StartError, match=hint),
                place.refusals(f"unix {tmp_path / name}"),
            ):
                raise StartError("odd", "a hint about ports") from cause


def test_refusal_is_in_kubectls_words() -> None:
    cause = OSError(errno.EADDRINUSE, "whatever")
    with (
        pytest.raises(StartError, match="bind") as info,
        place.refusals("tcp 127.0.0.1:8001"),
    ):
        raise StartError("odd", "a hint") from cause
    wanted = "listen tcp 127.0.0.1:8001: bind: address already in use"
    assert info.value.failed == wanted
    assert info.value.hint == "a hint"
    assert info.value.exit_code == 1


def test_refusal_without_ipv6_is_told_apart() -> None:
    cause = OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    with pytest.raises(place.NoSuchFamilyError), place.refusals("tcp [::]:1"):
        raise StartError("odd") from cause
