"""Expectations: kubectl's own table of filter cases, and answers of kubectl 1.37.1."""

import pytest

from pyproxy.http import pattern
from pyproxy.http.filter import Filter, host_of, is_cross_site
from pyproxy.http.pattern import PatternError, Patterns
from tests.support.asking import ask

POD = "/api/v1/namespaces/default/pods/foo"

DEFAULT_CASES = [
    ("GET", "", "127.0.0.1", True),
    ("GET", "/api/v1/pods", "127.0.0.1", True),
    ("GET", "/api/v1/pods", "localhost", True),
    ("GET", "/ui", "localhost", True),
    ("GET", POD, "localhost", True),
    ("GET", "/api/v1/namespaces/default/pods/attachfoo", "localhost", True),
    ("GET", "/api/v1/namespaces/default/pods/execfoo", "localhost", True),
    ("POST", POD, "localhost", True),
    ("PUT", POD, "localhost", True),
    ("PATCH", POD, "localhost", True),
    ("GET", f"{POD}/portforward", "localhost", True),
    ("GET", f"{POD}/exec", "127.0.0.1", False),
    ("GET", f"{POD}/attach", "127.0.0.1", False),
    ("POST", f"{POD}/exec", "localhost", False),
    ("GET", f"{POD}/execfoo", "localhost", False),
    ("GET", f"{POD}/EXEC", "localhost", True),
    ("GET", "/api/v1/namespaces/x/pods/exec", "localhost", True),
    ("GET", "/api/v1/x/pods/\ufffd/exec", "localhost", False),
    ("GET", "/api/v1/x/pods/y\n/exec", "localhost", True),
    ("GET", "/", "evil.com", False),
    ("GET", "/", "localhost.evil.com", False),
    ("GET", "/", "127a0b0c1", False),
    ("GET", "/", "127.0.0.2", False),
    ("GET", "/", "LOCALHOST", False),
    ("GET", "/", "localhost.", False),
    ("GET", "/", "", False),
    ("GET", "/", "unused", False),
    ("GET", "/", "localhost:8001", True),
    ("GET", "/", "localhost:", True),
    ("GET", "/", "localhost:x:y", False),
    ("GET", "/", "[localhost]", False),
    ("GET", "/", "[localhost]:1", True),
    ("GET", "/", "[::1]", True),
    ("GET", "/", "::1", False),
    ("GET", "/", "[::1", False),
    ("GET", "/", "[::1%25lo]:8", False),
    ("GET", "/", "[0:0:0:0:0:0:0:1]", False),
    # Beyond kubectl, which refuses it: kubernetes issue 77496.
    ("GET", "/", "[::1]:8001", True),
    ("GET", "/", "[::2]:8001", False),
]


@pytest.fixture(params=["re2", "re"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines; the second is what machines without a wheel of RE2 have."""
    name = str(request.param)
    if name == "re":
        monkeypatch.setattr(pattern, "RE2", None)
    else:
        pytest.importorskip("re2", reason="RE2 has no wheel here")
    return name


@pytest.mark.parametrize(("method", "path", "host", "accepted"), DEFAULT_CASES)
def test_default_filter_decides_as_kubectl(
    method: str, path: str, host: str, accepted: bool
) -> None:
    assert Filter().accepts(method, path, host) is accepted


@pytest.mark.parametrize(("method", "accepted"), [("GET", True), ("POST", False)])
def test_reject_methods_listed_rejects_these_only(method: str, accepted: bool) -> None:
    rules = Filter(reject_methods="POST,PUT,PATCH")
    assert rules.accepts(method, "/", "localhost") is accepted


def test_reject_methods_are_compared_as_sent() -> None:
    assert Filter(reject_methods="POST").accepts("post", "/", "localhost")


def test_reject_paths_empty_rejects_nothing() -> None:
    assert Filter(reject_paths="").accepts("POST", f"{POD}/exec", "localhost")


@pytest.mark.parametrize("empty", ["accept_hosts", "accept_paths"])
def test_accept_list_empty_rejects_everything(empty: str) -> None:
    assert not Filter(**{empty: ""}).accepts("GET", "/api", "localhost")


@pytest.mark.parametrize(
    ("text", "hits", "misses"),
    [
        ("bar,fo.*", ["foo", "bar", "xbarx"], ["baz"]),
        ("", [], ["", "x"]),
        ("a,,b", ["anything"], []),
        ("^$", [""], ["GET", "\n"]),
        ("^a{1,3}$", ["a{1"], ["aa"]),
        (r"^\d$", ["7"], ["\u0667"]),
        ("^/api$", ["/api"], ["/api\n"]),
        (r"^[$]\$$", ["$$"], ["$"]),
        (r"x\z", ["yx"], ["xy"]),
        ("(?i)^EXEC", ["exec", "Exec"], ["x"]),
        (r"^\w+$", ["pod_1"], ["p\u00f6d"]),
        ("^*$", ["", "anything"], []),  # in many tutorials; issue 11, 20
        ("^/api/v[[:digit:]]+/secrets", ["/api/v1/secrets"], ["/api/v/secrets"]),
        (r"^\Q*.\E$", ["*."], ["a."]),
        ("^[^[:alpha:]]$", ["1", "\n"], ["a"]),
        ("(?m)^b$", ["a\nb"], ["ab"]),
        ("(?s)^.$", ["\n"], [""]),
        ("^a|$", ["a", "x"], []),
    ],
)
def test_patterns_split_at_every_comma_and_search(
    text: str, hits: list[str], misses: list[str]
) -> None:
    patterns = Patterns(text)
    assert [word for word in hits + misses if patterns.match(word)] == hits


@pytest.mark.parametrize(
    "text",
    ["(", "[", "(?=x)", "(?<!x)", r"(a)\1", "*", "a**", "a*+", r"\Z", r"\h", "a{1001}"],
)
def test_patterns_that_kubectl_refuses_are_refused(text: str) -> None:
    with pytest.raises(PatternError, match="Error compiling re: error parsing") as info:
        Patterns(text)
    assert info.value.exit_code == 255


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"),
        ("localhost:8001", "localhost"),
        ("localhost:", "localhost"),
        (":80", ""),
        ("", ""),
        ("a:b:c", "a:b:c"),
        ("[::1]:80", "::1"),
        ("[::1]", "[::1]"),
        ("[::1]x:80", "[::1]x:80"),
        ("[::1:80", "[::1:80"),
        ("[[::1]:80", "[[::1]:80"),
        ("[::1]:]", "[::1]:]"),
        ("a]:80", "a]:80"),
    ],
)
def test_host_of_splits_as_go_does(authority: str, host: str) -> None:
    assert host_of(authority) == host


CROSS = "Sec-Fetch-Site: cross-site"
EVIL = "Origin: http://evil.com"


@pytest.mark.parametrize(
    ("method", "headers", "upgrade", "refused"),
    [
        ("POST", [], "", False),  # no browser
        ("POST", ["Sec-Fetch-Site: same-origin"], "", False),
        ("POST", ["Sec-Fetch-Site: none"], "", False),
        ("POST", [CROSS], "", True),
        ("POST", ["Sec-Fetch-Site: same-site"], "", True),
        ("DELETE", [CROSS], "", True),
        ("TRACE", [CROSS], "", True),
        ("GET", [CROSS, EVIL], "", False),
        ("HEAD", [CROSS], "", False),
        ("OPTIONS", [EVIL], "", False),
        ("GET", [CROSS], "websocket", True),
        ("GET", [EVIL], "websocket", True),
        ("GET", ["Origin: http://localhost:8001"], "websocket", False),
        ("POST", [EVIL], "", True),
        ("POST", ["Origin: null"], "", True),
        ("POST", ["Origin: http://localhost:8001"], "", False),
        # client-go's WebSocket dialer says so: upstream's e2e of port-forward.
        ("GET", ["Origin: http://localhost"], "websocket", False),
        # A browser, which says no Sec-Fetch-Site here.
        ("GET", ["Origin: http://localhost:3000"], "websocket", True),
        ("GET", ["Origin: http://127.0.0.1"], "websocket", True),
        ("POST", ["Origin: http://localhost:3000"], "", False),
        ("POST", ["Origin: https://127.0.0.9:1"], "", False),
        ("POST", ["Origin: http://[::1]:9"], "", False),
        ("POST", ["Origin: http://localhost:3000", CROSS], "", True),
        ("POST", ["Origin: http://localhost", EVIL], "", True),
        ("POST", [EVIL, "Origin: http://localhost"], "", True),
        ("POST", ["Origin: ", EVIL], "", True),
        ("POST", ["Origin: http://localhost@evil.com"], "", True),
        ("POST", ["Origin: http://a@localhost"], "", True),
        ("POST", ["Origin: http://localhost.evil.com"], "", True),
        ("POST", ["Origin: http://127.0.0.1.evil.com"], "", True),
        ("POST", ["Origin: http://localhost."], "", True),
        ("POST", ["Origin: http://2130706433"], "", True),
        ("POST", ["Origin: http://0.0.0.0"], "", True),
        ("POST", ["Origin: file://localhost"], "", True),
        ("POST", ["Origin: localhost"], "", True),
        ("POST", ["Origin: http://localhost, http://evil.com"], "", True),
        ("POST", ["Sec-Fetch-Site: same-origin", CROSS], "", True),
        ("POST", ["Sec-Fetch-Site: ", CROSS], "", True),
        ("GET", [CROSS], ", websocket", True),
        ("POST", ["Origin: http://LOCALHOST:8001"], "", False),
        ("POST", ["Origin: http://[::1"], "", True),
        ("POST", ["Sec-Fetch-Site: same-origin", EVIL], "", False),
    ],
)
def test_cross_site_requests_are_told_from_the_rest(
    method: str, headers: list[str], upgrade: str, refused: bool
) -> None:
    question = ask("/", method, "localhost:8001", *headers, upgrade=upgrade)
    assert is_cross_site(question) is refused
