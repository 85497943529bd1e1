"""Verdicts of apiserver-proxy: what they say, and what they are remembered for."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from pyproxy.dataplane import Certificate, Forward, Question, Reply
from pyproxy.discovery.targets import Lookup, Resolver, Stores
from pyproxy.http.identity import HeaderNames, Token, User
from pyproxy.kube.machines import Node, Pod
from pyproxy.modes.apiserver_proxy.answers import Lives, Memory
from pyproxy.modes.apiserver_proxy.forwards import (
    FRONT,
    REST,
    Apiserver,
    Edits,
)
from pyproxy.modes.apiserver_proxy.keys import parts_of
from pyproxy.modes.apiserver_proxy.policy import (
    Access,
    Answers,
    Decision,
    Need,
    Settings,
    Verdict,
    decide,
)
from tests.support.asking import ask

POD = "/api/v1/namespaces/n/pods/web/proxy"
NODE = "/api/v1/nodes/n1/proxy"
ALICE = User("alice", groups=("devs",))
KNOWN = User("alice", groups=("devs", "system:authenticated"))
READS_POD = Access(KNOWN, "get", "pods", "web", "n", subresource="proxy")
NOW_S = 100.0
BEARER = "Authorization: Bearer t"


class Issuers:
    """Every certificate is a user's."""

    def is_client(self, certificate: Certificate) -> bool:
        return True

    def is_front_proxy(self, certificate: Certificate) -> bool:
        return False


def stores() -> Stores:
    """One Pod and two Nodes, and nothing else."""
    made = Stores()
    pod = {
        "metadata": {"name": "web", "namespace": "n"},
        "status": {"podIPs": [{"ip": "10.0.0.1"}]},
    }
    made.pods.upsert(msgspec.convert(pod, Pod))
    for name, kind, address in (
        ("n1", "InternalIP", "10.0.0.2"),
        ("n2", "Hostname", "n2.example"),
    ):
        addresses = [{"type": kind, "address": address}]
        node = {"metadata": {"name": name}, "status": {"addresses": addresses}}
        made.nodes.upsert(msgspec.convert(node, Node))
    for each in (made.pods, made.services, made.slices, made.nodes):
        each.mark_synced()
    return made


def settings(**more: Any) -> Settings:
    """Settings as of a start, with a way to the apiserver."""
    given = {"apiserver": Apiserver("api.example:6443"), **more}
    given.setdefault("resolver", Resolver(stores()))
    return Settings(issuers=Issuers(), now_s=lambda: 1000.0, **given)


def known(answers: Mapping[Need, Any], lives: Lives | None = None) -> Answers:
    """Answers that have come just now."""
    memory = Memory(lives or Lives(), lambda: NOW_S)
    for need, answer in answers.items():
        memory.keep(need, answer)
    return memory.look()


EVERYTHING: dict[Need, Any] = {Token("t"): ALICE, READS_POD: Decision(True)}


def judge(
    question: Question, answers: Mapping[Need, Any] | None = None, **more: Any
) -> Verdict:
    """Return the verdict; there must be one, that the core can remember."""
    found = decide(question, settings(**more), known(answers or EVERYTHING))
    assert isinstance(found, Verdict), found
    if found.ttl_s > 0:
        assert question.unnamed(found.key) == []
        plain = {part for part in found.key if not part.startswith(":path/")}
        assert plain <= {*parts_of(HeaderNames())}
    return found


def forward(verdict: Verdict) -> Forward:
    assert isinstance(verdict.answer, Forward), verdict.answer
    return verdict.answer


def status_of(verdict: Verdict) -> int:
    assert isinstance(verdict.answer, Reply)
    return verdict.answer.status


def test_token_is_asked_about_first_and_rights_then() -> None:
    question = ask(f"{POD}/x", "GET", "h", BEARER)
    assert decide(question, settings(), known({})) == Token("t")
    whose: dict[Need, Any] = {Token("t"): ALICE}
    assert decide(question, settings(), known(whose)) == READS_POD
    sent = forward(judge(question))
    assert sent.address == "10.0.0.1:80"
    assert sent.upstream == "http"


def test_right_is_asked_for_before_anything_is_looked_up() -> None:
    target = "/api/v1/namespaces/n/pods/gone/proxy/"
    found = decide(ask(target), settings(), known({}))
    assert isinstance(found, Access)
    assert (found.user.name, found.name) == ("system:anonymous", "gone")


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("GET", "get"),
        ("HEAD", "get"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("OPTIONS", ""),
        ("TRACE", ""),
        ("get", ""),
    ],
)
def test_verb_is_that_of_the_method(method: str, verb: str) -> None:
    found = decide(ask(f"{POD}/x", method), settings(), known({}))
    assert isinstance(found, Access)
    assert found.verb == verb


def test_verdict_lives_as_long_as_its_answers() -> None:
    question = ask(f"{POD}/x", "GET", "h", BEARER)
    found = decide(
        question, settings(), known(EVERYTHING, Lives(token_s=3.0, allow_s=5.0))
    )
    assert isinstance(found, Verdict)
    assert found.ttl_s == pytest.approx(3.0)


def test_verdict_ends_with_the_certificate() -> None:
    jane = Certificate("CN=jane", "jane", ("system:masters",), 1004, b"der")
    found = judge(ask(f"{POD}/x", certificate=jane))
    assert found.ttl_s == pytest.approx(4.0)
    assert ":certificate" in found.key


def test_key_is_what_was_read_and_no_more() -> None:
    found = judge(ask(f"{POD}/x", "GET", "h", BEARER), forwarded_uri=False)
    assert set(found.key) == {
        *(":path/7", ":path~/proxy", ":method", ":host", ":certificate", ":upgrade"),
        *("authorization", "impersonate-user", "impersonate-uid", "impersonate-group"),
    }


def test_paths_below_a_url_share_a_verdict_without_x_forwarded_uri() -> None:
    keys = [
        judge(ask(f"{POD}/{rest}", "GET", "h", BEARER), forwarded_uri=False)
        for rest in ("a", "b/c?d")
    ]
    assert keys[0] == keys[1]


def test_urls_in_pages_are_mapped_unless_that_is_turned_off() -> None:
    found = [
        forward(judge(ask(f"{POD}/x", "GET", "h", BEARER), edits=edits)).response
        for edits in (Edits(), Edits(html=False))
    ]
    assert [each and each.html for each in found] == [True, False]


def test_masters_need_no_question() -> None:
    root = User("root", groups=("system:masters",))
    found = judge(ask(f"{POD}/x", "POST", "h", BEARER), {Token("t"): root})
    assert forward(found).address == "10.0.0.1:80"


def test_token_of_nobody_is_401_for_a_while() -> None:
    found = judge(ask(f"{POD}/x", "GET", "h", BEARER), {Token("t"): None})
    assert (status_of(found), found.ttl_s) == (401, 10.0)


def test_nobody_is_401_where_that_is_wanted() -> None:
    assert status_of(judge(ask(f"{POD}/x"), anonymous=False)) == 401


def test_what_is_not_allowed_is_remembered_for_its_own_time() -> None:
    answers: dict[Need, Any] = {
        Token("t"): ALICE,
        READS_POD: Decision(False, "because"),
    }
    question = ask(f"{POD}/x", "GET", "h", BEARER)
    found = decide(question, settings(), known(answers, Lives(deny_s=2.0)))
    assert isinstance(found, Verdict)
    assert (status_of(found), found.ttl_s) == (403, 2.0)
    assert isinstance(found.answer, Reply)
    assert b'in the namespace \\"n\\": because' in found.answer.body


def test_missing_object_is_not_remembered() -> None:
    target = "/api/v1/namespaces/n/pods/gone/proxy/"
    found = judge(ask(target), authorize=False)
    assert (status_of(found), found.ttl_s) == (404, 0.0)


def test_nothing_is_found_before_everything_is_known() -> None:
    found = judge(ask(f"{POD}/x"), authorize=False, resolver=Resolver(Stores()))
    assert status_of(found) == 503


def test_name_of_a_node_is_looked_up() -> None:
    question = ask("/api/v1/nodes/n2/proxy/x")
    found = decide(question, settings(authorize=False), known({}))
    assert found == Lookup("n2.example")
    answers: dict[Need, Any] = {Lookup("n2.example"): ("10.0.0.9",)}
    sent = forward(judge(question, answers, authorize=False))
    assert (sent.address, sent.upstream) == ("10.0.0.9:10250", "kubelet")


def test_redirect_keeps_the_query_and_is_not_remembered() -> None:
    found = judge(ask(f"{POD}?a=b"), authorize=False)
    assert isinstance(found.answer, Reply)
    assert (found.answer.status, found.ttl_s) == (301, 0.0)
    assert ("Location", f"{POD}/?a=b") in found.answer.headers


def test_impersonation_asks_for_each_right() -> None:
    question = ask(f"{POD}/x", "GET", "h", BEARER, "Impersonate-User: bob")
    found = decide(question, settings(), known({Token("t"): ALICE}))
    assert found == Access(KNOWN, "impersonate", "users", "bob")
    bob = User("bob", groups=("system:authenticated",))
    reads = Access(bob, "get", "pods", "web", "n", subresource="proxy")
    answers: dict[Need, Any] = {
        Token("t"): ALICE,
        Access(KNOWN, "impersonate", "users", "bob"): Decision(True),
        reads: Decision(True),
    }
    found = decide(question, settings(), known(answers))
    assert isinstance(found, Verdict)
    assert found.ttl_s == 0.0  # extra has no closed list of names


def test_other_paths_go_on_as_they_came_whatever_the_token() -> None:
    found = judge(ask("/api/v1/pods?watch=1", "GET", "h", BEARER), {})
    assert forward(found) == Forward(
        REST, host="api.example:6443", forwarded_for=True, upgrades=None
    )
    assert found.key == (":certificate", ":path~/proxy", ":upgrade")
    assert forward(judge(ask("/x", upgrade="h2c"), {})).upgrades == ()


def test_other_paths_are_404_where_that_is_wanted() -> None:
    assert status_of(judge(ask("/version"), {}, apiserver=None)) == 404


JANE = Certificate("CN=jane", "jane", ("devs",), 2000, b"der")


def test_user_with_a_certificate_is_not_passed_on_without_ours() -> None:
    assert status_of(judge(ask("/version", certificate=JANE), {})) == 403


def test_user_with_a_certificate_is_passed_on_by_name() -> None:
    forged = ("X-Remote-User: root", "X-Remote-Extra-Scopes: all", BEARER)
    question = ask("/version", "GET", "h", *forged, certificate=JANE)
    front = Apiserver("api.example", front=True)
    sent = forward(judge(question, {}, apiserver=front))
    assert sent.upstream == FRONT
    assert {"authorization", "x-remote-user", "x-remote-extra-*"} <= set(sent.remove)
    said = dict(sent.set)
    assert said["X-Remote-User"] == "jane"
    groups = [value for name, value in sent.set if name == "X-Remote-Group"]
    assert groups == ["devs", "system:authenticated"]


def test_certificate_that_has_ended_is_nobody_to_the_apiserver() -> None:
    ended = JANE._replace(not_after=1000)
    front = Apiserver("api.example", front=True)
    question = ask("/version", certificate=ended)
    assert status_of(judge(question, {}, apiserver=front)) == 401


def test_host_is_a_part_of_keys_only_where_there_are_virtual_hosts() -> None:
    rest = ask("/api/v1/pods", "GET", "h")
    assert ":host" not in judge(rest).key
    rest = ask("/api/v1/pods", "GET", "web.n.svc.localhost.evil")
    assert ":host" in judge(rest, suffixes=("localhost",)).key


def test_virtual_host_has_the_key_of_its_host_and_not_of_its_path() -> None:
    question = ask("/any//path", "GET", "gone.n.svc.localhost", BEARER)
    access = Access(KNOWN, "get", "services", "gone", "n", subresource="proxy")
    denied: dict[Need, Any] = {Token("t"): ALICE, access: Decision(False)}
    verdict = judge(question, denied, suffixes=("localhost",))
    assert status_of(verdict) == 403
    assert ":host" in verdict.key
    assert not [part for part in verdict.key if part.startswith(":path")]
