"""Which proxy the environment names: golang.org/x/net/http/httpproxy, restated.

Also apimachinery's TestProxierWithNoProxyCIDR, and A10: never a proxy for loopback.
"""

import pytest

from pyproxy.kube.config.proxies import proxy_for
from pyproxy.kube.config.server import parse_server

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("server", "env", "proxy"),
    [
        ("https://h", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://h", {"https_proxy": PROXY}, PROXY),
        ("https://h", {"HTTPS_PROXY": PROXY, "https_proxy": "http://no"}, PROXY),
        ("https://h", {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        ("https://h", {"HTTP_PROXY": PROXY}, ""),
        ("http://h", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://h", {"HTTPS_PROXY": PROXY}, ""),
        ("http://h", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, ""),
        ("https://h", {"HTTPS_PROXY": PROXY, "REQUEST_METHOD": "GET"}, PROXY),
        ("https://h", {"HTTPS_PROXY": "proxy:3128"}, PROXY),
        ("https://h", {"HTTPS_PROXY": "socks5h://p:1"}, "socks5h://p:1"),
        ("https://h", {"HTTPS_PROXY": "ftp://p"}, ""),
        ("https://h", {"HTTPS_PROXY": "http://[bad"}, ""),
        ("https://h", {"ALL_PROXY": PROXY}, ""),
        ("https://h", {}, ""),
    ],
)
def test_proxy_of_the_environment(server: str, env: dict[str, str], proxy: str) -> None:
    assert proxy_for(parse_server(server), env) == proxy


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_nothing_on_this_machine_is_reached_through_a_proxy(host: str) -> None:
    server = parse_server(f"https://{host}:6443")
    assert proxy_for(server, {"HTTPS_PROXY": PROXY}) == ""


@pytest.mark.parametrize(
    ("host", "rules", "exempt"),
    [
        ("a.test", "*", True),
        ("a.test", "b.test,*", True),
        ("a.test", "", False),
        ("a.test", "a.test", True),
        ("a.test", "A.TEST", True),
        ("a.test", " b.test , a.test ", True),
        ("x.a.test", "a.test", True),
        ("xa.test", "a.test", False),
        ("a.test", ".a.test", False),
        ("x.a.test", ".a.test", True),
        ("a.test", "*.a.test", False),
        ("x.a.test", "*.a.test", True),
        ("a.test", "a.test:6443", True),
        ("a.test", "a.test:443", False),
        ("a.test", ":6443", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:6443", True),
        ("10.1.2.3", "10.1.2.3:1", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("a.test", "10.0.0.0/8", False),
        ("10.1.2.3", "fd00::/8", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]", "fd00:0::1", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("[fd00::1]", "[fd00::1]:6443", True),
        ("[fd00::1]", "[fd00::1]:1", False),
        ("a.test", "a.test/8", False),
    ],
)
def test_exemption(host: str, rules: str, exempt: bool) -> None:
    server = parse_server(f"https://{host}:6443")
    for name in ("NO_PROXY", "no_proxy"):
        found = proxy_for(server, {"HTTPS_PROXY": PROXY, name: rules})
        assert found == ("" if exempt else PROXY)
