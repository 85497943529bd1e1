"""The same request to `kubectl proxy` and to us, in front of the same upstream.

The expectation is what kubectl answers at that moment. Where we mean to do better, the
row stands in BEYOND with the reason and with what we answer instead.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from tests.fakes.desk import find_kubectl
from tests.fakes.recorder import Seen
from tests.fakes.two import Outcome, side_by_side
from tests.support.kubectl_rows import MALFORMED, STATIC, TABLES, UPSTREAM

pytestmark = pytest.mark.skipif(
    not find_kubectl(), reason="no kubectl beside this Python (group test)"
)


class Beyond(NamedTuple):
    """What we do otherwise, and why."""

    reason: str
    status: int
    target: str = ""  # what the upstream sees; "" = nothing, or the same


STRICTER = "ambiguous framing is refused: nobody may read it in another way"
NO_HOST = "what no URL can have as its authority is a malformed Host"
NO_LISTING = "directories are not listed by default"
NO_MORE = "a client that was refused an upgrade may have sent what is no request"
BEYOND = {
    "host [::1]:8001": Beyond("IPv6 loopback with its port is accepted", 200),
    "host localhost:": Beyond("nobody sends an empty port in good faith", 400),
    "host ::1": Beyond(NO_HOST, 400),
    "host [::1": Beyond(NO_HOST, 400),
    "host localhost:x:y": Beyond(NO_HOST, 400),
    "path /a%2Fb//c": Beyond("a redirect keeps escapes: %2F, not %252F", 307),
    "custom /custom/a%2Fb": Beyond("%2F reaches the apiserver", 200, "/a%2Fb"),
    "custom /custom/a%41b": Beyond("escapes are passed on as they are", 200, "/a%41b"),
    "custom /custom/%2e%2e/x": Beyond("and so are these", 200, "/%2e%2e/x"),
    "static evil": Beyond("the host filter holds for static files, too", 403),
    "static /static/": Beyond(NO_LISTING, 404),
    "static /static/dir/": Beyond(NO_LISTING, 404),
    "static /static/escape": Beyond("no way out through a symbolic link", 404),
    "CONNECT": Beyond("an apiserver is no tunnel", 400),
    "cl and te": Beyond(STRICTER, 400),
    "obs-fold": Beyond(STRICTER, 400),
    "bare lf": Beyond(STRICTER, 400),
    "connection xupgradey": Beyond("Connection is read as a list of words", 500),
    "upgrade h2c": Beyond("h2c is not taken up: the request goes on without", 200),
    "upgrade plain": Beyond(NO_MORE, 500),
    "upgrade 302": Beyond(NO_MORE, 500),
}

# Errors that either side has its own words for; everything else is the same.
OWN_WORDS = {
    *MALFORMED,
    *("answer none", "answer 101", "upgrade none", "path /zz%zz"),
    *("host a{1", "host 3}"),
}
# What the library that serves our files adds to what Go sends.
STATIC_HEADERS = ("server", "etag", "x-content-type-options")


def say_nothing(seen: Seen, connection: socket.socket) -> None:
    """End the connection without a word."""


def make_files(www: Path) -> None:
    """Something to show, and something not to."""
    for name in ("sub/index.html", "dir/file", "test.txt"):
        (www / name).parent.mkdir(parents=True, exist_ok=True)
        (www / name).write_text("This is test data")
        os.utime(www / name, (1e9, 1e9))  # a library rounds it up, the other down
    (www / "link").symlink_to("test.txt")
    (www / "escape").symlink_to("../kubeconfig")


def differences(row: str, theirs: Outcome, ours: Outcome) -> list[str]:
    """Say what is other than it should be."""
    expected, found = dict(theirs.facts), dict(ours.facts)
    if row in BEYOND:
        beyond = BEYOND[row]
        targets = [seen.target for seen in ours.seen]
        wrong = []
        if found == expected:
            wrong.append("kubectl does so, too")
        if ours.answer.status != beyond.status:
            wrong.append(f"status {ours.answer.status}, not {beyond.status}")
        if beyond.target and targets != [beyond.target]:
            wrong.append(f"upstream saw {targets}, not {beyond.target}")
        return wrong
    if row in OWN_WORDS:
        for facts in (found, expected):
            assert facts.pop("body")
            facts.pop("headers")
    if row in STATIC:
        for facts in (found, expected):
            headers = cast("list[tuple[str, str]]", facts["headers"])
            facts["headers"] = [h for h in headers if h[0] not in STATIC_HEADERS]
    return [
        f"{name}: {found[name]}, not {expected[name]}"
        for name in expected
        if found[name] != expected[name]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_requests_are_answered_as_kubectl_does(table: str, tmp_path: Path) -> None:
    flags, rows = TABLES[table]
    make_files(tmp_path / "x" / "www")
    path = "/k8s/c-1" if "server path" in table else ""
    with side_by_side(tmp_path / "x", *flags, path=path) as two:
        for name, answer in UPSTREAM.items():
            two.upstream.answers[f"/answer/{name}"] = answer
        two.upstream.answers["/answer/none"] = say_nothing
        wrong = {
            row: differences(row, two.kubectl(raw), two.ours(raw))
            for row, raw in rows.items()
        }
    assert {row: why for row, why in wrong.items() if why} == {}


def test_rows_beyond_kubectl_exist() -> None:
    rows = {row for _, table in TABLES.values() for row in table}
    assert BEYOND.keys() <= rows
    assert OWN_WORDS <= rows
