"""Limits of users: whose request a verdict says that it is."""

from typing import Any

import pytest

from pyproxy.dataplane import Quota
from pyproxy.http.identity import NOBODY, Token, User
from pyproxy.modes.apiserver_proxy.config import ClientLimits
from pyproxy.modes.apiserver_proxy.policy import Access, Decision, Need, decide
from tests.modes.apiserver_proxy.test_policy import (
    ALICE,
    BEARER,
    EVERYTHING,
    KNOWN,
    POD,
    forward,
    judge,
    known,
    settings,
)
from tests.support.asking import ask

LIMITS = ClientLimits(max_requests_per_user=3, max_bytes_per_second_per_user=500)


def test_without_limits_no_verdict_has_a_quota() -> None:
    assert forward(judge(ask(f"{POD}/x", "GET", "h", BEARER))).quota is None
    of_sources = ClientLimits(max_connections_per_source=7)
    found = judge(ask(f"{POD}/x", "GET", "h", BEARER), limits=of_sources)
    assert forward(found).quota is None


def test_request_is_one_of_its_user() -> None:
    found = judge(ask(f"{POD}/x", "GET", "h", BEARER), limits=LIMITS)
    assert forward(found).quota == Quota("alice", 3, 500)


def test_request_in_the_name_of_another_is_one_of_that_one() -> None:
    bob = User("bob", groups=("system:authenticated",))
    answers: dict[Need, Any] = {
        Token("t"): ALICE,
        Access(KNOWN, "impersonate", "users", "bob"): Decision(True),
        Access(bob, "get", "pods", "web", "n", subresource="proxy"): Decision(True),
    }
    question = ask(f"{POD}/x", "GET", "h", BEARER, "Impersonate-User: bob")
    quota = forward(judge(question, answers, limits=LIMITS)).quota
    assert quota is not None
    assert quota.name == "bob"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ((BEARER,), "alice"),
        ((), NOBODY.name),
        # Only the apiserver knows whether alice may: bob must not pay for it.
        ((BEARER, "Impersonate-User: bob"), "alice"),
    ],
    ids=["token", "nobody", "impersonation"],
)
def test_other_paths_are_limited_by_who_sends_them(
    lines: tuple[str, ...], name: str
) -> None:
    found = judge(ask("/api/v1/pods", "GET", "h", *lines), EVERYTHING, limits=LIMITS)
    quota = forward(found).quota
    assert quota == Quota(name, 3, 500)
    assert "authorization" in found.key


def test_token_for_other_paths_that_is_nobodys_is_the_apiservers_to_refuse() -> None:
    question = ask("/api/v1/pods", "GET", "h", BEARER)
    assert decide(question, settings(limits=LIMITS), known({})) == Token("t")
    quota = forward(judge(question.again(), {Token("t"): None}, limits=LIMITS)).quota
    assert quota is not None
    assert quota.name == NOBODY.name


def test_without_limits_no_token_for_other_paths_is_asked_about() -> None:
    found = judge(ask("/api/v1/pods", "GET", "h", BEARER), {Token("x"): None})
    assert forward(found).quota is None
    assert "authorization" not in found.key
