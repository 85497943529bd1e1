"""URLs and cookies of responses, mapped by us and by a second, plainer program."""

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastpath import Forward, ResponseEdits
from fastpath.verdict_block import filter_head

Pairs = tuple[tuple[str, str], ...]

ADDRESS = "10.0.0.5:80"
HOST = "App.example:8443"
OURS = "proxy:8001"
SAFE = "%-._~!$&'()*+,;=:@"
# Source: RFC 3986, appendix B.
URL = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(.*)", re.DOTALL)
PORTS = {"http": ":80", "https": ":443", None: "none"}
MAPPINGS: tuple[Pairs, ...] = (
    (("/", "/ns/a/proxy"),),
    (("/base", "/"),),
    (("/base/", "/x/"), ("/", "/base")),
    (("/base/sub", "/y"), ("/ns", "/ns")),
)


def mapped(path: str, pairs: Pairs) -> str | None:
    """Apply the first pair that is about the path; None = none is."""
    for old, new in ((a.rstrip("/"), b.rstrip("/")) for a, b in pairs):
        if not f"{path}/".startswith(f"{old}/"):
            continue
        nested = f"{new}/".startswith(f"{old}/")
        if nested and f"{path}/".startswith(f"{new}/"):
            return path
        return new + path[len(old) :] or "/"
    return None


def clean(path: str, raw: bool = False) -> str:
    """Resolve dot segments, as a browser reads them; drop empty ones."""
    kept: list[str] = []
    last = ""
    for segment in path.split("/")[1:]:
        last = segment.lower().replace("%2e", ".")
        if last == "..":
            del kept[-1:]
        elif last not in ("", "."):
            whole = segment if raw else quote(segment.encode("latin-1"), safe=SAFE)
            kept.append(whole)
    slash = kept and last in ("", ".", "..")
    return "/" + "/".join(kept) + ("/" if slash else "")


def location(value: str, pairs: Pairs, raw: bool = False) -> str:
    """What becomes of a Location, or of a URL in a page (`raw`)."""
    found = URL.fullmatch(value)
    assert found is not None
    scheme, authority, path, after = found.groups()
    before = ""
    if authority is not None:
        port = PORTS.get(scheme.lower() if scheme else None)
        said = authority.lower()
        bare = said.removesuffix(port or "") if port else said
        own = [a.lower().removesuffix(port or "") for a in (ADDRESS, HOST)]
        if port is None or not said:
            return value
        if bare not in own:
            if said != OURS:
                return value
            before = value[: len(value) - len(path) - len(after)]
    elif scheme is not None or not path.startswith("/"):
        return value
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        return value
    new = mapped(clean(path, raw), pairs)
    return value if new is None else before + new + after


def ours(name: str, value: str, edits: ResponseEdits) -> str:
    """What the core makes of the value of a header."""
    head = f"HTTP/1.1 302 Found\r\n{name}: {value}\r\n\r\n".encode("latin-1")
    forward = Forward("up", host=HOST, response=edits)
    after = filter_head(head, forward, ADDRESS)
    assert after is not None
    line = after.decode("latin-1").split("\r\n")[1]
    assert line.startswith(f"{name}: ")
    return line.removeprefix(f"{name}: ")


PIECES = st.sampled_from(
    [
        *("/", "/", "/", ".", "..", "%2e", "%2E%2e", "a", "base", "base/sub", "ns"),
        *("/ns/a/proxy", "%", "%00", "<script>", " ", "\\", "é", "?", "#", ":", "@"),
        *("http://", "HTTPS://", "//", ADDRESS, "10.0.0.5", HOST, OURS, "evil"),
        *("app.EXAMPLE", ":443", ":80", "[::1]", ";", "="),
    ]
)
URLS = st.lists(PIECES, max_size=12).map("".join).map(str.strip)


@given(
    URLS, st.sampled_from(MAPPINGS), st.sampled_from(["Location", "content-location"])
)
@example("//", MAPPINGS[0], "Location")
@example("http://10.0.0.5", MAPPINGS[0], "Location")
@example("http://10.0.0.5:80/../../x", MAPPINGS[0], "Location")
@example("/..%2f%2e%2e/x", MAPPINGS[0], "Location")
@example("/ns/a/proxy/../../../x", MAPPINGS[0], "Location")
def test_location_is_mapped_as_the_reference_maps_it(
    value: str, pairs: Pairs, name: str
) -> None:
    edits = ResponseEdits(location=pairs, hosts=(OURS,))
    assert ours(name, value, edits) == location(value, pairs)


@given(URLS)
def test_path_that_was_mapped_stays_under_its_prefix(value: str) -> None:
    edits = ResponseEdits(location=MAPPINGS[0], hosts=(OURS,))
    after = ours("Location", value, edits)
    assert after == value or "/ns/a/proxy/" in f"{after.split('?')[0].split('#')[0]}/"
    assert ours("Location", after, edits) == after


# Source: kubernetes, apimachinery/pkg/util/proxy/transport_test.go, for proxies whose
# URL has no scheme and host.
@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("/test", "/ns/a/proxy/test"),
        ("/test/", "/ns/a/proxy/test/"),
        ("/ns/a/proxy/test", "/ns/a/proxy/test"),
        ("http://10.0.0.5:80/test?q=/x#/y", "/ns/a/proxy/test?q=/x#/y"),
        ("//10.0.0.5:80/test", "/ns/a/proxy/test"),
        ("http://proxy:8001/test", "http://proxy:8001/ns/a/proxy/test"),
        ("http://other.example/test", "http://other.example/test"),
        ("test", "test"),
        ("?q", "?q"),
        ("#f", "#f"),
        ("", ""),
        ("/%00<script>", "/ns/a/proxy/%00%3Cscript%3E"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://10.0.0.5:80@evil/x", "http://10.0.0.5:80@evil/x"),
        ("http://10.0.0.5:80\\@evil/x", "http://10.0.0.5:80\\@evil/x"),
        ("/\\evil/x", "/ns/a/proxy/%5Cevil/x"),
    ],
)
def test_location_is_mapped_as_the_api_server_maps_it(value: str, after: str) -> None:
    edits = ResponseEdits(location=MAPPINGS[0], hosts=(OURS,))
    assert ours("Location", value, edits) == after


def jar(cookie: str) -> tuple[str, list[str], str | None]:
    """Read a Set-Cookie as a browser does: pair, attributes less Path, Path.

    Source: RFC 6265, 5.2 and 5.2.4; a Path that is none is None.
    """
    pair, *attributes = cookie.split(";")
    path, others = None, []
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name.strip(" \t").lower() == "path":
            value = value.strip(" \t")
            path = value if value.startswith("/") else None
        else:
            others.append(attribute)
    return pair, others, path


COOKIES = st.lists(
    st.sampled_from(
        [
            *("a=1", ";", ";", "; ", "Path", "path", "=", " ", "\t", "/", "/x", "/ns"),
            *("/ns/a", "/nsx", "; Path=/app", "Secure", "Domain=x", '"', "..", ";Path"),
        ]
    ),
    max_size=12,
).map("".join)


@given(COOKIES, st.sampled_from(["/ns/a", "/ns/", "/"]))
@example("a=1", "/ns")
@example("a=1; Path", "/ns")
@example("a=1; Path=; path=/x", "/ns")
def test_cookie_gets_a_path_under_the_prefix_and_is_otherwise_the_same(
    cookie: str, prefix: str
) -> None:
    cookie = cookie.strip(" \t")
    bare = prefix.rstrip("/")
    pair, others, path = jar(cookie)
    wanted = path
    if path is None:
        wanted = bare or "/"
    elif not f"{path}/".startswith(f"{bare}/"):
        wanted = bare + path
    after = ours("Set-Cookie", cookie, ResponseEdits(cookie_path=prefix))
    left = [each for each in others if each.partition("=")[0].strip(" \t") != "Domain"]
    assert jar(after) == (pair, left, wanted)
