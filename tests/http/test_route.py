"""Expectations: kubectl's table of prefixes, and what kubectl 1.37.1 answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http.route import (
    Api,
    ContextList,
    Malformed,
    Missing,
    Redirect,
    Route,
    Router,
    Static,
    clean_path,
    with_slash,
)


@pytest.mark.parametrize(
    ("prefix", "path", "route"),
    [
        ("/api/", "/metrics", Missing()),
        ("/api/", "/api/metrics", Api(0, "/api/metrics")),
        ("/api/", "/api/v1/pods/", Api(0, "/api/v1/pods/")),
        ("/api/", "/api", Redirect("/api/")),
        ("/api-foo/", "/api-foo/x", Api(0, "/api-foo/x")),
        ("/", "/metrics", Api(0, "/metrics")),
        ("/", "/api/v1/pods/", Api(0, "/api/v1/pods/")),
        ("/", "/", Api(0, "/")),
        ("/", "", Redirect("/")),  # http://localhost
        ("/custom/", "/metrics", Missing()),
        ("/custom/", "/api/metrics", Missing()),
        ("/custom/", "/customx", Missing()),
        ("/custom/", "/custom/api/metrics", Api(7, "/api/metrics")),
        ("/custom/", "/custom/", Api(7, "/")),
        ("/custom/", "/custom", Redirect("/custom/")),
        ("/custom/", "/c%75stom/a", Api(9, "/a")),
        ("/custom/", "/%2Fcustom/x", Missing()),
        ("/custom/", "/custom//a", Redirect("/custom/a")),
        ("/custom/", "/custom/x%zz", Malformed()),
        ("/custom/", "/custom/%2e%2e/x", Api(7, "/../x")),
        ("/a/b/", "/a/b/c", Api(4, "/c")),
        ("/a/b/", "/a%2Fb/c", Missing()),
        ("/", "/api//v1/pods", Redirect("/api/v1/pods")),
        ("/", "/api/./v1", Redirect("/api/v1")),
        ("/", "/api/../x", Redirect("/x")),
        ("/", "//", Redirect("/")),
        ("/", "/a/..", Redirect("/")),
        ("/", "/a/../", Redirect("/")),
        ("/", "/a/.", Redirect("/a")),
        ("/", "/a/./", Redirect("/a/")),
        ("/", "/a//", Redirect("/a/")),
        ("/", "/..", Redirect("/")),
        ("/", "/a%2Fb", Api(0, "/a/b")),
        ("/", "/a/%2e/b", Api(0, "/a/./b")),
        ("/", "/a..b/.c", Api(0, "/a..b/.c")),
        ("/", "/zz%zz", Malformed()),
        ("/", "/zz%4", Malformed()),
        ("/", "foo", Malformed()),
        ("/", "/%ff", Api(0, "/\ufffd")),
        ("/", "/%C3%A9", Api(0, "/é")),
    ],
)
def test_route_with_prefix_is_as_kubectl_routes(
    prefix: str, path: str, route: Route
) -> None:
    assert Router(prefix).route(path) == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/static/test.txt", Static(7)),
        ("/static/", Static(7)),
        ("/static", Redirect("/static/")),
        ("/staticx", Api(0, "/staticx")),
        ("/st%61tic/x", Static(9)),
        ("/static/../x", Redirect("/x")),
        ("/static/%2e%2e/x", Static(7)),
    ],
)
def test_route_with_static_prefix_finds_files(path: str, route: Route) -> None:
    assert Router("/", "/static/").route(path) == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/contexts", Redirect("/contexts/")),
        ("/contexts/", ContextList()),
        ("/contexts/dev", Redirect("/contexts/dev/")),
        ("/contexts/dev/", Api(13, "/", "dev")),
        ("/contexts/dev/api/v1", Api(13, "/api/v1", "dev")),
        ("/contexts/%64ev/api", Api(15, "/api", "dev")),
        ("/contexts/arn:a%2Fb/api", Api(19, "/api", "arn:a/b")),
        ("/contexts/none/api", Missing()),
        ("/contexts/dev//api", Redirect("/contexts/dev/api")),
        ("/api", Api(0, "/api")),
    ],
)
def test_route_with_contexts_finds_each_by_name(path: str, route: Route) -> None:
    found = Router("/", contexts=["dev", "arn:a/b"]).route(path)
    assert found == route


def test_route_with_longest_prefix_wins() -> None:
    router = Router("/a/", "/a/b/")
    assert router.route("/a/b/c") == Static(4)
    assert router.route("/a/c") == Api(2, "/c")


@pytest.mark.parametrize(("given_", "prefix"), [("/x", "/x/"), ("/x/", "/x/")])
def test_with_slash_adds_what_is_missing(given_: str, prefix: str) -> None:
    assert with_slash(given_) == prefix


@given(st.text(st.sampled_from("/.ab%"), max_size=12).map(lambda text: "/" + text))
def test_clean_path_is_clean_and_stays_so(path: str) -> None:
    clean = clean_path(path)
    assert clean_path(clean) == clean
    assert clean.startswith("/")
    segments = clean.split("/")[1:]
    assert not set(segments) & {".", ".."}
    assert "" not in segments[:-1]


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_route_of_any_text_is_some_route(path: str) -> None:
    router = Router("/custom/", "/static/", ["a"])
    route = router.route(path)
    if isinstance(route, Redirect):
        # A redirect is not answered with another redirect, but for the slash.
        assert not isinstance(router.route(route.path), Malformed)
    if isinstance(route, Api):
        assert path[route.strip] == "/"
