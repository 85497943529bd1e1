"""Addresses of apiservers in every form that kubectl dials, and those that it does not.

Expectations: kubectl 1.37.1; what it dials is put to it again where it is installed.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyproxy.discovery import names
from pyproxy.discovery.apiservers import _check
from pyproxy.errors import ConfigError
from pyproxy.kube.config import AccessError, ClientFlags, load
from pyproxy.kube.config.server import parse_server
from tests.fakes.apiserver import authority
from tests.fakes.desk import Desk, either, kubeconfig, write_kubeconfig
from tests.fakes.kubectl import environment, one_context, write
from tests.fakes.recorder import Recorder, pair_for
from tests.support.servers import has_ipv6

pytestmark = pytest.mark.live

# Form -> scheme, host, port, path.
DIALED = {
    "https://127.0.0.1:6443": ("https", "127.0.0.1", 6443, ""),
    "https://[::1]:6443": ("https", "::1", 6443, ""),
    "https://[::1%25lo]:6443": ("https", "::1%lo", 6443, ""),
    "https://[::1%25l%6f]:6443": ("https", "::1%lo", 6443, ""),
    "https://[fe80::1%25lo]:6443": ("https", "fe80::1%lo", 6443, ""),
    "https://[::ffff:127.0.0.1]:6443": ("https", "::ffff:127.0.0.1", 6443, ""),
    "https://[::FFFF:7f00:1]:6443": ("https", "::ffff:7f00:1", 6443, ""),
    "https://LOCALHOST:6443": ("https", "localhost", 6443, ""),
    "HTTPS://localhost:6443": ("https", "localhost", 6443, ""),
    "https://api.test.:6443": ("https", "api.test.", 6443, ""),
    "https://a_b.test:6443": ("https", "a_b.test", 6443, ""),
    "https://127.0.0.1:06443": ("https", "127.0.0.1", 6443, ""),
    "https://127.0.0.1": ("https", "127.0.0.1", 443, ""),
    "https://127.0.0.1:": ("https", "127.0.0.1", 443, ""),
    "https://[::1]": ("https", "::1", 443, ""),
    "https://[::1]:": ("https", "::1", 443, ""),
    "http://127.0.0.1:": ("http", "127.0.0.1", 80, ""),
    "127.0.0.1": ("http", "127.0.0.1", 80, ""),
    "127.0.0.1:6443": ("http", "127.0.0.1", 6443, ""),
    "127.0.0.1:6443/": ("http", "127.0.0.1", 6443, ""),
    "[::1]": ("http", "::1", 80, ""),
    "https:": ("http", "https", 80, ""),
    "https://u:p@127.0.0.1:6443": ("https", "127.0.0.1", 6443, ""),
    "https://a@b@127.0.0.1:6443": ("https", "127.0.0.1", 6443, ""),
    "https://0.0.0.0:6443": ("https", "0.0.0.0", 6443, ""),
    "https://bücher.test:6443": ("https", "xn--bcher-kva.test", 6443, ""),
    "https://BÜCHER.test:6443": ("https", "xn--bcher-kva.test", 6443, ""),
    "https://b%C3%BCcher.test:6443": ("https", "xn--bcher-kva.test", 6443, ""),
    "https://ß.test:6443": ("https", "xn--zca.test", 6443, ""),
    "https://a。b:6443": ("https", "a.b", 6443, ""),
    "https://①.test:6443": ("https", "1.test", 6443, ""),
    "https://h/": ("https", "h", 443, ""),
    "https://h/a": ("https", "h", 443, "/a"),
    "https://h/a/": ("https", "h", 443, "/a"),
    "https://h//a//b//": ("https", "h", 443, "//a//b/"),
    "https://h/a%2Fb": ("https", "h", 443, "/a/b"),
    "https://h/a%2fb/": ("https", "h", 443, "/a/b"),
    "https://h/a b": ("https", "h", 443, "/a%20b"),
    "https://h/a%20b": ("https", "h", 443, "/a%20b"),
    "https://h/a%25b": ("https", "h", 443, "/a%25b"),
    "https://h/a%3Fb": ("https", "h", 443, "/a%3Fb"),
    "https://h/é": ("https", "h", 443, "/%C3%A9"),
    "https://h/a;b+c:d": ("https", "h", 443, "/a;b+c:d"),
    "https://h/../b": ("https", "h", 443, "/../b"),
    "https://h/a?x=1": ("https", "h", 443, "/a"),
    "https://h/a#f": ("https", "h", 443, "/a%23f"),
    "https://h?x=1": ("https", "h", 443, ""),
    "https://h#f": ("https", "h", 443, ""),
}
REFUSED = [
    *"https:// http:// //127.0.0.1 https:/127.0.0.1 https:///127.0.0.1 ::1".split(),
    *"https://::1 https://::1:6443 https://[::1 https://::1] https://[]".split(),
    *"https://[localhost] https://[127.0.0.1] https://[::g] https://[::1%lo]".split(),
    *"https://[fe80::1%25] https://h:65536 https://h:-1 https://h:https".split(),
    *"https://h:+1 https://h:4٣ https://%6cocalhost https://a%20b https://a%2fb".split(),
    *"https://a%00b https://a%zzb https://h/a%zz https://h/a% ftp://h unix:///x".split(),
    *"tcp://h wss://h 1http://h 127.0.0.1:6443/a h/a?b".split(),
    " https://h",
    "https://h ",
    "https://h\n",
    "https://h: 1",
    "https://a b",
    "https://a\0b",
    "https://a\x7fb",
    "https://h/\x01",
    "https://a\\b",
    "https://a|b",
    "https://a{b",
    "https://-a.test",
    "https://a..b",
    "https://.",
    "https://127.1",
    "https://0177.0.0.1",
    "https://127.0.0.01",
    "https://127.0.0.1.",
    "https://2130706433",
    "https://0",
]


@pytest.mark.parametrize("form", DIALED)
def test_form_that_kubectl_dials_is_dialed(form: str, tmp_path: Path) -> None:
    server = parse_server(form)
    found = (server.scheme, server.host, server.port, server.path)
    assert found == DIALED[form]
    cluster = {"server": form, "insecure-skip-tls-verify": True}
    file = write(tmp_path / "config", one_context(cluster, {"token": "t"}))
    _check(load(ClientFlags(), environment(tmp_path, KUBECONFIG=str(file))))


@pytest.mark.parametrize("form", REFUSED)
def test_form_that_kubectl_cannot_dial_is_refused_at_the_start(
    form: str, tmp_path: Path
) -> None:
    cluster = {"server": form, "insecure-skip-tls-verify": True}
    file = write(tmp_path / "config", one_context(cluster, {"token": "t"}))
    env = environment(tmp_path, KUBECONFIG=str(file))
    with pytest.raises(AccessError):
        _check(load(ClientFlags(), env))


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0x7f000001", "127.1", "0"])
async def test_number_that_libc_takes_for_an_address_is_nobodys_name(host: str) -> None:
    # kubectl: no such host; the same over http, where no certificate is looked at.
    with pytest.raises(ConfigError, match="cannot resolve"):
        await names.resolve(host)


HERE = [
    "127.0.0.1:{}",
    "[::ffff:127.0.0.1]:{}",
    "[::FFFF:7f00:1]:{}",
    "localhost:{}",
    "LOCALHOST:{}",
    "127.0.0.1:0{}",
    "0.0.0.0:{}",
    "[::1]:{}",
    "[0:0:0:0:0:0:0:1]:{}",
    "[::1%25lo]:{}",
    "[::1%25l%6f]:{}",
]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[int]:
    """Servers on one port of both families; return it."""
    with ExitStack() as stack:
        pair = pair_for(authority(tmp_path / "pki"))
        first = stack.enter_context(Recorder(pair))
        if has_ipv6():
            port = first.address.port
            stack.enter_context(Recorder(pair, host="::1", port=port))
        yield first.address.port


@either
@pytest.mark.slow
@pytest.mark.parametrize("form", HERE)
def test_form_leads_there(
    tmp_path: Path, both: int, form: str, kind: type[Desk]
) -> None:
    if ":1]" in form.replace("7f00:1]", "") and not has_ipv6():
        pytest.skip("no IPv6 here")
    server = "https://" + form.format(both)
    file = tmp_path / "config"
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    write_kubeconfig(file, {"main": (cluster, {"token": "t"})})
    with kind(tmp_path / "proxy", f"--kubeconfig={file}") as proxy:
        assert proxy.ask("/a").status == 200


def link_local() -> str:
    """Return an address of this machine that needs its zone, "" = there is none."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, _, _, name = line.split()
        if digits.startswith("fe80"):
            return f"{ipaddress.IPv6Address(bytes.fromhex(digits))}%{name}"
    return ""


@either
@pytest.mark.slow
@pytest.mark.skipif(not link_local(), reason="no link-local address here")
def test_link_local_address_is_dialed_in_its_zone(
    tmp_path: Path, kind: type[Desk]
) -> None:
    with Recorder(pair_for(authority(tmp_path / "pki")), host=link_local()) as upstream:
        host = link_local().replace("%", "%25")
        server = f"https://[{host}]:{upstream.address.port}"
        cluster = {"server": server, "insecure-skip-tls-verify": True}
        file = tmp_path / "config"
        write_kubeconfig(file, {"main": (cluster, {"token": "t"})})
        with kind(tmp_path / "proxy", f"--kubeconfig={file}") as proxy:
            assert proxy.ask("/a").status == 200
        told = f"[{link_local().partition('%')[0]}]:{upstream.address.port}"
        assert upstream.seen[-1].get("host") == told


@either
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a%2Fb", "/a/b/x%2Fy?q=1"),
        ("//a//b//", "//a//b//x%2Fy?q=1"),
        ("/a#f", "/a%23f/x%2Fy?q=1"),
        ("/a b/", "/a%20b/x%2Fy?q=1"),
        ("/a?x=1", "/a/x%2Fy?q=1"),
    ],
)
def test_path_of_a_server_stands_before_the_requests(
    tmp_path: Path, kind: type[Desk], path: str, target: str
) -> None:
    with Recorder(None) as upstream:
        file = tmp_path / "config"
        kubeconfig(file, upstream.url + path, {"token": "t"})
        flags = (f"--kubeconfig={file}", "--append-server-path")
        with kind(tmp_path / "proxy", *flags) as proxy:
            assert proxy.ask("/x%2Fy?q=1").status == 200
        assert upstream.seen[-1].target == target
