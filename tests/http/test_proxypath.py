"""Proxy URLs taken apart. Source of the vectors: the facts, B1, B2 and B14."""

import pytest

from pyproxy.http.proxypath import ProxyId, ProxyPath, cleaned, parse, split_id

POD = "/api/v1/namespaces/n/pods/foo/proxy"
SERVICE = "/api/v1/namespaces/n/services/https:dash:443/proxy"
NODE = "/api/v1/nodes/n1:10250/proxy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", ProxyId("foo")),
        ("foo:", ProxyId("foo")),
        ("foo:80", ProxyId("foo", "80")),
        ("foo:http", ProxyId("foo", "http")),
        ("https:foo:", ProxyId("foo", "", "https")),
        ("https:foo:443", ProxyId("foo", "443", "https")),
        ("http:foo:80", ProxyId("foo", "80", "http")),
        (":foo:80", ProxyId("foo", "80")),
        ("https:foo", ProxyId("https", "foo")),  # another object than it looks
        ("ftp:foo:21", None),
        ("HTTPS:foo:", None),
        ("::", None),
        (":80", None),
        ("a:b:c:d", None),
        ("", None),
    ],
)
def test_id_is_split_at_colons(text: str, expected: ProxyId | None) -> None:
    assert split_id(text) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (POD, ProxyPath("pods", "n", "foo", POD, "")),
        (f"{POD}/", ProxyPath("pods", "n", "foo", POD, "/")),
        (f"{POD}/sub/path", ProxyPath("pods", "n", "foo", POD, "/sub/path")),
        (f"{POD}/a%2Fb//c/", ProxyPath("pods", "n", "foo", POD, "/a%2Fb//c/")),
        (f"{POD}/../../x", ProxyPath("pods", "n", "foo", POD, "/../../x")),
        (f"{POD}/x/proxy/y", ProxyPath("pods", "n", "foo", POD, "/x/proxy/y")),
        (SERVICE, ProxyPath("services", "n", "https:dash:443", SERVICE, "")),
        (NODE, ProxyPath("nodes", "", "n1:10250", NODE, "")),
        (f"{NODE}/logs/", ProxyPath("nodes", "", "n1:10250", NODE, "/logs/")),
    ],
)
def test_proxy_url_is_taken_apart(path: str, expected: ProxyPath) -> None:
    assert parse(path) == expected


def test_id_with_escaped_colon_is_decoded_and_the_prefix_stays_as_it_came() -> None:
    path = "/api/v1/namespaces/n/services/web%3Aodd/%70roxy/x"
    found = parse(path)
    assert found is not None
    assert (found.id, found.rest) == ("web:odd", "/x")
    assert found.prefix == "/api/v1/namespaces/n/services/web%3Aodd/%70roxy"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "/",
        "/api/v1/pods",
        "/api/v1/namespaces/n/pods/foo",
        "/api/v1/namespaces/n/pods/foo/log",
        "/api/v1/namespaces/n/pods/foo/proxyx",
        "/api/v1/namespaces/n/configmaps/foo/proxy",
        "/api/v1/namespaces/n/pods/proxy",
        "/api/v1/nodes/proxy",
        "/api/v1/nodes/n1/status",
        "/api/v2/nodes/n1/proxy",
        "/apis/v1/nodes/n1/proxy",
        "//api/v1/nodes/n1/proxy",
        "/api/v1//nodes/n1/proxy",
        "/api/v1/nodes//proxy",
        "/api/v1/nodes/../proxy",
        "/api/v1/nodes/a%2Fb/proxy",
        "/api/v1/namespaces/n/pods%2Ffoo/proxy/x",
        "/api/v1/namespaces//pods/foo/proxy",
        # Prefixes of old, which an apiserver answers with a 404. B14.
        "/api/v1/proxy/namespaces/n/services/web/echo",
        "/api/v1/proxy/nodes/n1/",
        "/api/v1/redirect/namespaces/n/services/web",
    ],
)
def test_other_path_is_no_proxy_url(path: str) -> None:
    assert parse(path) is None


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a//b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../x", "/x"),
        ("/a%2Fb", "/a/b"),
        ("/a%20b", "/a%20b"),
        ("/a%252Fb", "/a%252Fb"),
        ("/%00x", "/%00x"),
        ("/%3Cscript%3E", "/%3Cscript%3E"),
        ("/a;b=c", "/a;b=c"),
        ("/\xe9", "/%E9"),
        ("/a/./b/", "/a/b/"),
        ("/sub/path/", "/sub/path/"),
    ],
)
def test_path_is_cleaned_as_kube_apiserver_does(rest: str, expected: str) -> None:
    # tests/golden, `path …` of proxy-subresource.jsonl.
    assert cleaned(rest) == expected
