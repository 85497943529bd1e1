"""Verdicts of kubectl-proxy are never remembered for what they are not about."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.dataplane import Question
from pyproxy.http.policy import Credential, Need, Settings, Target, Verdict, decide
from pyproxy.http.route import Router
from tests.http.test_policy import EXEC, PLUGIN, TARGET, TOKEN, settings
from tests.support.asking import ask

HEADERS = st.sets(
    st.sampled_from(
        [
            "Authorization: Bearer mine",
            "Authorization: Bearer other",
            "Impersonate-User: bob",
            "Origin: http://evil.com",
            "Origin: http://localhost:8001",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-origin",
            "Cookie: a=b",
        ]
    ),
    max_size=3,
)
ODD = re.compile(r"%|//|/\.")
PIECES = (
    *("", "/", "/api", "/v1", "/static", "/contexts", "/dev", "/custom", "/deep", EXEC),
    *(
        "/exec",
        "/xexecx",
        "/attach",
        "/pods",
        "/%61pi",
        "/st%61tic",
        "/.",
        "/.api",
        "/..",
        "/x%2Fy",
        "/%zz",
        "?x",
    ),
)
ROUTERS = {
    "default": Router("/", "/static/", ["dev"]),
    "alone": Router("/"),
    "no contexts": Router("/", contexts=[]),
    "custom": Router("/custom/", "/static/"),
    "static root": Router("/api/", "/"),
    "deep": Router("/custom/deep/", "/static/"),
    "deep static": Router("/", "/custom/deep/"),
    "dotted": Router("/.api/", "/static/"),
}
QUESTIONS = st.builds(
    lambda target, method, host, headers, upgrade, refused: ask(
        target, method, host, *sorted(headers), upgrade=upgrade, refused=refused
    ),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    st.sampled_from(["GET", "POST", "PUT"]),  # CONNECT is refused by the core itself
    st.sampled_from(["localhost:8001", "evil.com"]),
    HEADERS,
    st.sampled_from(["", "websocket", "h2c"]),
    st.sampled_from([0, 401]),
)
TARGETS = st.builds(
    Target,
    st.just("main"),
    st.just("h"),
    impersonate=st.sampled_from([(), (("Impersonate-User", "ann"),)]),
    takes_credential=st.booleans(),
)


def part(question: Question, name: str) -> str | None:
    """Return a part of a request as the core compares it."""
    question = question.aside
    if name == ":segment" or name.startswith(":path/"):
        return stretch_of(question.path, int(name[6:]) if name != ":segment" else 1)
    if name.startswith(":path~"):
        odd = ODD.search(question.path) or not question.path.startswith("/")
        return question.path if odd else str(name[6:] in question.path)
    if name.startswith(":"):
        return str(getattr(question, name[1:]))
    return question.header(name)


def stretch_of(path: str, segments: int) -> str:
    """Return what a path begins with; of an odd one the whole."""
    if not path.startswith("/") or ODD.search(path):
        return path
    found = re.match("/" + segments * "[^/]*/", path)
    return found[0] if found else path


@given(
    QUESTIONS,
    QUESTIONS,
    TARGETS,
    st.sampled_from(list(ROUTERS.values())),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, TOKEN, PLUGIN]),
)
def test_verdict_is_never_remembered_for_a_request_that_it_is_not_about(
    one: Question,
    other: Question,
    target: Target,
    router: Router,
    open_: bool,
    lax: bool,
    credential: Credential | None,
) -> None:
    more = {"dev": Target("context/dev", "d", takes_credential=True)}
    base = settings(target, router, open_=open_, more=more)
    wanted = Settings(base.router, base.targets, base.filter, lax)
    known = {} if credential is None else {"": credential, "dev": credential}
    verdict = decide(one, wanted, known)
    if isinstance(verdict, Need) or not verdict.ttl_s:
        return
    assert one.unnamed(verdict.key) == []
    if all(part(one, name) == part(other, name) for name in verdict.key):
        again = decide(other.again(), wanted, known)
        assert isinstance(again, Verdict)
        assert again.answer == verdict.answer


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("open_", [True, False])
def test_path_meets_no_verdict_that_is_about_another(name: str, open_: bool) -> None:
    # As the core's memory: each way of naming parts that is in use is looked up.
    more = {"dev": Target("context/dev", "d")}
    wanted = settings(TARGET, ROUTERS[name], open_=open_, more=more)
    paths = {"".join(some) for some in itertools.product(PIECES, repeat=3)}
    asked = [ask(path) for path in sorted(paths)]
    verdicts = [decide(each, wanted, {"": TOKEN, "dev": TOKEN}) for each in asked]
    memory: dict[tuple[str, ...], dict[tuple[str | None, ...], object]] = {}
    for question, verdict in zip(asked, verdicts, strict=True):
        assert isinstance(verdict, Verdict)
        if verdict.ttl_s:
            values = tuple(part(question, name) for name in verdict.key)
            kept = memory.setdefault(verdict.key, {})
            assert kept.setdefault(values, verdict.answer) == verdict.answer
    for question, verdict in zip(asked, verdicts, strict=True):
        for key, kept in memory.items():
            values = tuple(part(question, name) for name in key)
            assert isinstance(verdict, Verdict)
            assert kept.get(values, verdict.answer) == verdict.answer
