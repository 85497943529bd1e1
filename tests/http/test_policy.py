"""Verdicts of kubectl-proxy: what they say, and what they are remembered for."""

import json
from collections.abc import Mapping

import pytest

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.http.filter import Filter
from pyproxy.http.policy import (
    REMEMBER_S,
    Credential,
    Need,
    Settings,
    Target,
    Verdict,
    decide,
    parts_of,
)
from pyproxy.http.route import Router
from tests.support.asking import ask

EXEC = "/api/v1/namespaces/x/pods/y/exec"
TOKEN = Credential("Bearer sesame")
PLUGIN = Credential("Bearer fresh", ttl_s=60.0, renewable=True)
TARGET = Target("main", "api.example:6443", takes_credential=True)


def settings(
    target: Target = TARGET,
    router: Router | None = None,
    rules: Filter | None = None,
    *,
    open_: bool = False,
    more: Mapping[str, Target] | None = None,
) -> Settings:
    """Settings with the default filter, or none at all (`open_`)."""
    more = more or {}
    return Settings(
        router or Router("/", "/static/", list(more) or None),
        {"": target, **more},
        None if open_ else rules or Filter(),
        user_agent="pyproxy/test",
        current="dev",
    )


def judge(
    question: Question,
    wanted: Settings | None = None,
    credentials: Mapping[str, Credential] | None = None,
) -> Verdict:
    """Return the verdict; there must be one."""
    known = {"": TOKEN} if credentials is None else credentials
    wanted = wanted or settings()
    verdict = decide(question, wanted, known)
    assert isinstance(verdict, Verdict)
    assert set(verdict.key) <= {*parts_of(wanted.filter), ":path/2"}
    return verdict


def forward(verdict: Verdict) -> Forward:
    """Return where a verdict sends to."""
    assert isinstance(verdict.answer, Forward)
    return verdict.answer


def reply(verdict: Verdict) -> Reply:
    """Return what a verdict answers."""
    assert isinstance(verdict.answer, Reply)
    return verdict.answer


def test_request_accepted_is_forwarded_with_our_credential() -> None:
    sent = forward(judge(ask("/api/v1/pods?limit=1")))
    assert sent == Forward(
        "main",
        host="api.example:6443",
        default=(("User-Agent", "pyproxy/test"), ("Authorization", "Bearer sesame")),
        forwarded_for=True,
        upgrades=None,
    )


def test_server_path_is_put_before_what_the_prefix_leaves() -> None:
    target = Target("main", "h", path="/k8s/clusters/c-1")
    sent = forward(judge(ask("/custom/api/v1"), settings(target, Router("/custom/"))))
    assert (sent.strip, sent.prefix) == (7, "/k8s/clusters/c-1")


def test_request_rejected_is_forbidden_in_kubectls_words() -> None:
    said = reply(judge(ask(EXEC)))
    assert said.status == 403
    assert said.body == b"Forbidden\n"
    assert dict(said.headers) == {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }


@pytest.mark.parametrize("path", ["/a%2F" + EXEC[1:], EXEC.replace("exec", "%65xec")])
def test_request_rejected_by_decoded_path(path: str) -> None:
    rules = Filter(reject_paths="/pods/.*/exec")
    assert reply(judge(ask(path), settings(rules=rules))).status == 403


def test_request_with_prefix_is_filtered_by_what_is_left() -> None:
    router = Router("/custom/")
    assert reply(judge(ask(f"/custom{EXEC}"), settings(router=router))).status == 403


def test_filter_disabled_lets_exec_and_any_host_pass() -> None:
    question = ask(EXEC, "POST", "evil.com")
    assert forward(judge(question, settings(open_=True)))


@pytest.mark.parametrize("open_", [False, True])
def test_cross_site_post_is_refused_unless_allowed(open_: bool) -> None:
    question = ask("/api", "POST", "localhost", "Sec-Fetch-Site: cross-site")
    verdict = judge(question, settings(open_=open_))
    assert reply(verdict).status == 403
    assert b"--allow-cross-site" in reply(verdict).body
    assert {"origin", "sec-fetch-site", ":host", ":method"} <= set(verdict.key)


def test_cross_site_post_allowed_passes() -> None:
    base = settings()
    allowed = Settings(base.router, base.targets, base.filter, allow_cross_site=True)
    question = ask("/api", "POST", "localhost", "Sec-Fetch-Site: cross-site")
    verdict = judge(question, allowed)
    assert forward(verdict)
    assert "origin" not in verdict.key


def test_get_is_remembered_without_regard_to_origin_and_headers() -> None:
    verdict = judge(ask("/api/v1/pods"))
    words = {":path~/exec", ":path~/attach"}
    assert set(verdict.key) == {":segment", ":method", ":upgrade", ":host"} | words
    assert verdict.ttl_s == REMEMBER_S


@pytest.mark.parametrize(
    "path",
    [EXEC, "/api/v1/pods/x/attach", "/api/v1/pods/exec-1", "/api/%61", "/api/.x"],
)
def test_path_that_the_filter_may_reject_is_remembered_by_itself(path: str) -> None:
    assert {":path", ":segment"} & set(judge(ask(path)).key) == {":path"}


@pytest.mark.parametrize(
    ("target", "router", "place"),
    [
        ("/api/v1", Router(), ":segment"),
        ("/api/v1", Router("/", "/static/", []), ":segment"),
        ("/custom/api", Router("/custom/"), ":segment"),
        ("/static/x", Router("/", "/static/"), ":segment"),
        ("/a/b/api", Router("/a/b/"), ":path"),
        ("/contexts/dev/api", Router("/", "", ["dev"]), ":path/2"),
    ],
)
def test_filter_disabled_remembers_for_all_paths_of_a_prefix(
    target: str, router: Router, place: str
) -> None:
    wanted = settings(router=router, open_=True, more={"dev": Target("dev", "d")})
    verdict = judge(ask(target), wanted)
    assert {":path", ":path/2", ":segment"} & set(verdict.key) == {place}


def test_filter_disabled_remembers_for_all_hosts() -> None:
    assert ":host" not in judge(ask("/api"), settings(open_=True)).key


def test_credential_unknown_is_needed() -> None:
    assert decide(ask("/api"), settings(), {}) == Need("")


def test_credential_unknown_is_not_needed_by_clients_with_their_own() -> None:
    question = ask("/api", "GET", "localhost", "Authorization: Bearer mine")
    verdict = judge(question, credentials={})
    assert [name for name, _ in forward(verdict).default] == ["User-Agent"]
    assert "authorization" in verdict.key


def test_credential_renewable_asks_again_after_401_and_ends() -> None:
    verdict = judge(ask("/api"), credentials={"": PLUGIN})
    assert forward(verdict).ask_on == 401
    assert ("Authorization", "Bearer fresh") in forward(verdict).default
    assert verdict.ttl_s == 60.0
    assert "authorization" in verdict.key


def test_credential_renewable_is_not_renewed_for_a_clients_own_401() -> None:
    question = ask("/api", "GET", "localhost", "Authorization: Bearer mine")
    verdict = judge(question, credentials={"": PLUGIN})
    assert forward(verdict).ask_on == 0
    assert verdict.ttl_s == REMEMBER_S


def test_credential_rejected_is_needed_anew() -> None:
    question = ask("/api", refused=401)
    assert decide(question, settings(), {"": PLUGIN}) == Need("", rejected=True)


def test_target_that_cannot_be_dialed_says_why() -> None:
    verdict = judge(ask("/api"), settings(Target("main", "h", lost="no such host")))
    assert reply(verdict).body == b"no such host\n"
    assert (reply(verdict).status, verdict.ttl_s) == (500, 0.0)


def test_target_without_credentials_gets_none() -> None:
    sent = forward(judge(ask("/api"), settings(Target("plain", "h")), {}))
    assert [name for name, _ in sent.default] == ["User-Agent"]


def test_impersonation_is_set_as_a_whole_unless_the_client_has_its_own() -> None:
    pairs = (("Impersonate-User", "ann"), ("Impersonate-Group", "a"))
    wanted = settings(Target("main", "h", impersonate=pairs))
    ours = judge(ask("/api"), wanted)
    question = ask("/api", "GET", "localhost", "Impersonate-User: bob")
    theirs = judge(question, wanted)
    assert forward(ours).set == pairs
    assert forward(theirs).set == ()
    assert "impersonate-user" in ours.key
    assert "impersonate-user" in theirs.key


@pytest.mark.parametrize(
    ("upgrade", "allowed"),
    [("websocket", None), ("SPDY/3.1", None), ("h2c", ()), ("H2C, websocket", ())],
)
def test_upgrade_of_any_protocol_but_h2c_passes(
    upgrade: str, allowed: tuple[str, ...] | None
) -> None:
    assert forward(judge(ask("/api", upgrade=upgrade))).upgrades == allowed


def test_static_is_forwarded_without_secrets() -> None:
    sent = forward(judge(ask("/static/a.txt")))
    assert (sent.upstream, sent.strip) == ("static", 7)
    assert {"Authorization", "Cookie"} <= set(sent.remove)
    assert sent.default == ()


def test_static_is_for_hosts_on_the_list_only() -> None:
    # Beyond kubectl, whose files any page can read through a name of its own.
    assert reply(judge(ask("/static/a.txt", "GET", "evil.com"))).status == 403
    assert forward(judge(ask("/static/a", "GET", "evil.com"), settings(open_=True)))


def test_static_is_not_filtered_by_path() -> None:
    assert forward(judge(ask("/static/x"), settings(rules=Filter(accept_paths=""))))


@pytest.mark.parametrize(
    ("target", "method", "location", "body"),
    [
        (
            "/api//v1/pods?a=b%3D",
            "GET",
            "/api/v1/pods?a=b%3D",
            '<a href="/api/v1/pods?a=b%3D">Temporary Redirect</a>.\n\n',
        ),
        (
            '/a//?x=<>"',
            "GET",
            '/a/?x=<>"',
            '<a href="/a/?x=&lt;&gt;&#34;">Temporary Redirect</a>.\n\n',
        ),
        ("//x", "OPTIONS", "/x", ""),
        ("//x", "HEAD", "/x", ""),
        ("/static", "POST", "/static/", ""),
        ("//?", "HEAD", "/", ""),
        # Beyond kubectl, which escapes what is escaped: %252F.
        ("/a%2Fb//c", "HEAD", "/a%2Fb/c", ""),
        ("//%0d%0aSet-Cookie:x", "HEAD", "/%0d%0aSet-Cookie:x", ""),
        ("//\xe9", "HEAD", "/%E9", ""),
    ],
)
def test_redirect_keeps_query_and_escapes(
    target: str, method: str, location: str, body: str
) -> None:
    verdict = judge(ask(target, method, "evil.com"))
    said = reply(verdict)
    headers = dict(said.headers)
    assert (said.status, headers["Location"]) == (307, location)
    assert said.body.decode() == body
    html = method in ("GET", "HEAD")
    assert headers.get("Content-Type") == ("text/html; charset=utf-8" if html else None)
    assert verdict.ttl_s == 0  # it depends on the query, of which there are many


@pytest.mark.parametrize(
    ("target", "method", "status", "close"),
    [
        ("/zz%zz", "GET", 400, True),
        ("foo", "GET", 400, True),
        ("*", "GET", 400, True),
        ("*", "OPTIONS", 200, False),
    ],
)
def test_odd_targets_are_answered_by_us(
    target: str, method: str, status: int, close: bool
) -> None:
    said = reply(judge(ask(target, method)))
    assert (said.status, said.close) == (status, close)


def test_path_of_nobody_is_not_found_before_the_filter() -> None:
    verdict = judge(ask("/api", "GET", "evil.com"), settings(router=Router("/custom/")))
    assert reply(verdict).status == 404
    assert reply(verdict).body == b"404 page not found\n"


def test_context_in_path_has_its_own_target_and_credential() -> None:
    wanted = settings(more={"dev": Target("context/dev", "d", takes_credential=True)})
    assert decide(ask("/contexts/dev/api"), wanted, {"": TOKEN}) == Need("dev")
    known = {"": TOKEN, "dev": Credential("Bearer dev")}
    sent = forward(judge(ask("/contexts/dev/api"), wanted, known))
    assert (sent.upstream, sent.strip) == ("context/dev", 13)
    assert ("Authorization", "Bearer dev") in sent.default


def test_context_in_path_is_filtered_by_what_is_left() -> None:
    wanted = settings(more={"dev": Target("context/dev", "d")})
    assert reply(judge(ask(f"/contexts/dev{EXEC}"), wanted)).status == 403


def test_contexts_are_listed_with_paths_that_work() -> None:
    wanted = settings(more={"dev": Target("a", "d"), "arn:a/b": Target("b", "d")})
    said = reply(judge(ask("/contexts/"), wanted))
    listed = json.loads(said.body)["contexts"]
    assert listed == [
        {"name": "arn:a/b", "path": "/contexts/arn%3Aa%2Fb/", "current": False},
        {"name": "dev", "path": "/contexts/dev/", "current": True},
    ]
    for each in listed:
        assert isinstance(judge(ask(each["path"]), wanted).answer, Forward)
    assert reply(judge(ask("/contexts/", "GET", "evil.com"), wanted)).status == 403


def test_credential_is_not_shown() -> None:
    assert "sesame" not in repr(TOKEN)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        # Found by a stranger: a browser reads `/\\evil.com/` as http://evil.com/.
        ("//\\evil.com/", "/%5Cevil.com/"),
        ("/\\/evil.com//", "/%5C/evil.com/"),
        ("/\\evil.com//x", "/%5Cevil.com/x"),
        ("//evil.com/", "/evil.com/"),
        ("///evil.com//", "/evil.com/"),
        ("//%5cevil.com/", "/%5cevil.com/"),
        ("//\tevil.com/", "/%09evil.com/"),
        ("/\t//evil.com/", "/%09/evil.com/"),
        ("//\x0b\x1f\x7fevil.com/", "/%0B%1F%7Fevil.com/"),
        ("//\x80evil.com/", "/%80evil.com/"),
        ("//@evil.com/", "/@evil.com/"),
        ("/.//\\evil.com/", "/%5Cevil.com/"),
        ("/x/..//\\evil.com/", "/%5Cevil.com/"),
        ("//https://evil.com/", "/https:/evil.com/"),
    ],
)
def test_redirect_never_leads_to_another_host(path: str, location: str) -> None:
    # WHATWG URL: a backslash is a slash, tab and newline are skipped, `//` is a host.
    said = reply(judge(ask(path)))
    assert (said.status, dict(said.headers)["Location"]) == (307, location)


def test_redirect_keeps_a_backslash_out_of_the_query_too() -> None:
    said = reply(judge(ask("//x?to=\\\\evil.com\t")))
    assert dict(said.headers)["Location"] == "/x?to=%5C%5Cevil.com%09"
