"""Headers of which the apiserver reads the first line, and what we make of them."""

import pytest

from pyproxy.http.policy import Target
from tests.http.test_policy import PLUGIN, forward, judge, settings
from tests.support.asking import ask


@pytest.mark.parametrize(
    ("lines", "own"),
    [
        ((), False),
        (("bob",), True),
        (("",), False),
        (("", ""), False),
        (("", "bob"), False),
    ],
)
def test_impersonation_is_left_out_only_for_a_client_that_says_its_own(
    lines: tuple[str, ...], own: bool
) -> None:
    # The apiserver reads the first line. Two empty ones were taken for a name: the
    # request went out as the user of the kubeconfig, without --as.
    target = Target("main", "h", impersonate=(("Impersonate-User", "ann"),))
    headers = [f"Impersonate-User: {line}" for line in lines]
    verdict = judge(ask("/api", "GET", "localhost", *headers), settings(target))
    assert (forward(verdict).set == ()) is own


@pytest.mark.parametrize("lines", [("",), ("", ""), ("", "Bearer x")])
def test_empty_authorization_does_not_keep_our_credential_out(
    lines: tuple[str, ...],
) -> None:
    headers = [f"Authorization: {line}" for line in lines]
    verdict = judge(ask("/api", "GET", "localhost", *headers), credentials={"": PLUGIN})
    assert ("Authorization", "Bearer fresh") in forward(verdict).default
