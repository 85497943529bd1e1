"""Who may reach what through apiserver-proxy, over real TLS.

Source of what is expected: the facts, B3, B6, B11 and B15.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.sandbox.certificates import Authority
from tests.fakes.bastion import ask, dial, own_address
from tests.fakes.desk import Answer
from tests.support.bastion_rig import (
    SPACE,
    WEB,
    Rig,
    bastion_rig,
    issued,
    message,
    request,
)
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not own_address(), reason="only loopback addresses here"),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests."""
    with bastion_rig(tmp_path_factory.mktemp("bastion")) as made:
        yield made


# May they


def test_right_holds_for_one_spelling_of_an_id_and_one_verb(rig: Rig) -> None:
    assert rig.ask(f"{WEB}/echo", token="alice-token").status == 200
    for target, method in (
        (f"{WEB}/echo", "POST"),
        (f"{WEB}/echo", "OPTIONS"),
        (f"{SPACE}/services/http:web:odd/proxy/echo", "GET"),
        (f"{SPACE}/services/web:9999/proxy/echo", "GET"),
        (f"{SPACE}/pods/web-0/proxy/echo", "GET"),
    ):
        answer = rig.ask(target, token="alice-token", method=method)
        assert answer.status == 403, (target, method)


def test_user_without_rights_learns_nothing_of_what_exists(rig: Rig) -> None:
    names = ("web:odd", "gone", "a:b:c:d")
    answers = [
        rig.ask(f"{SPACE}/services/{name}/proxy/", token="bob-token") for name in names
    ]
    said = {
        message(answer).replace(name, "…")
        for name, answer in zip(names, answers, strict=True)
    }
    assert len(said) == 1
    assert {answer.status for answer in answers} == {403}


def test_remembered_verdict_costs_no_question(rig: Rig) -> None:
    target = f"{WEB}/remembered"
    rig.ask(target)
    asked = rig.metric('pyproxy_verdicts_total{outcome="asked"}')
    for _ in range(5):
        assert rig.ask(f"{target}?any=query").status == 200
    assert rig.metric('pyproxy_verdicts_total{outcome="asked"}') == asked


def test_get_that_upgrades_to_a_command_on_a_node_takes_create(rig: Rig) -> None:
    # Kubernetes issue 136550: a WebSocket begins with a GET.
    node = f"/api/v1/nodes/n1:{rig.backend.port}/proxy"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    assert rig.ask(f"{node}/exec/x", token="alice-token").status == 200
    for path in ("exec/ns/pod/c", "run/x", "attach/x", "portForward/x", "%65xec/x"):
        for lead in ("", "/", "a/../"):
            target = f"{node}/{lead}{path}"
            answer = rig.ask(target, *upgrade, token="alice-token")
            assert answer.status == 403, target
            assert "cannot create resource" in message(answer)
    with rig.program.dial() as connection:
        connection.sendall(request(f"{node}/ws", *upgrade, token="alice-token"))
        assert connection.recv(12) == b"HTTP/1.1 101"


# Who are you


def test_certificate_says_who_a_client_is(rig: Rig) -> None:
    jane = issued(rig.users, "jane")
    assert rig.ask(f"{WEB}/echo", token=None, pair=jane).status == 200
    other = issued(rig.users, "mallory")
    answer = rig.ask(f"{WEB}/echo", token=None, pair=other)
    assert answer.status == 403
    assert 'User "mallory"' in message(answer)


def test_group_of_a_certificate_counts(rig: Rig) -> None:
    root = issued(rig.users, "root", "system:masters")
    assert rig.ask(f"{WEB}/echo", token=None, method="POST", pair=root).status == 200


def test_authority_of_front_proxies_makes_no_users(rig: Rig) -> None:
    root = issued(rig.fronts, "root", "system:masters")
    answer = rig.ask(f"{WEB}/echo", token=None, pair=root)
    assert 'User "system:anonymous"' in message(answer)


def test_intermediate_that_a_client_sends_leads_to_its_authority(
    rig: Rig, tmp_path: Path
) -> None:
    for name, root in (("users", rig.users), ("fronts", rig.fronts)):
        (tmp_path / name).mkdir()
        middle = Authority(tmp_path / name, "middle", above=root)
        pair = issued(middle, f"{name}-jim", "system:masters")
        chain = pair.certificate.read_bytes() + middle.certificate.read_bytes()
        pair.certificate.write_bytes(chain)
        context = rig.program.trust()
        context.load_cert_chain(pair.certificate, pair.key)
        session = None
        for _ in range(2):
            with dial(rig.program.port, context, session=session) as connection:
                assert connection.session_reused == (session is not None)
                headers = ("X-Remote-User: bob",)
                said = ask(connection, f"{WEB}/echo", *headers, token=None)
                session = connection.session
            if name == "users":
                assert said.status == 200
            else:
                assert 'User "bob"' in message(said)


def test_front_proxy_says_whose_request_it_is(rig: Rig) -> None:
    front = issued(rig.fronts, "front")
    seen = rig.echo(
        f"{WEB}/echo", "X-Remote-User: alice", "X-Foo: 1", token=None, pair=front
    )
    assert ["x-foo", "1"] in seen["headers"]
    answer = rig.ask(f"{WEB}/echo", "X-Who: bob", token=None, pair=front)
    assert 'User "bob"' in message(answer)


def test_authority_of_users_makes_no_front_proxies(rig: Rig) -> None:
    mallory = issued(rig.users, "mallory2")
    headers = ("X-Remote-User: alice", "X-Remote-Group: system:masters")
    answer = rig.ask(f"{WEB}/echo", *headers, token=None, pair=mallory)
    assert 'User "mallory2"' in message(answer)


def test_impersonation_takes_the_right_to_it(rig: Rig) -> None:
    as_bob = "Impersonate-User: bob"
    answer = rig.ask(f"{WEB}/echo", as_bob, token="alice-token")
    assert answer.status == 403
    assert 'User "alice" cannot impersonate resource "users"' in message(answer)
    answer = rig.ask(f"{WEB}/echo", as_bob)
    assert 'User "bob" cannot get resource' in message(answer)
    assert rig.ask(f"{WEB}/echo", "Impersonate-User: alice").status == 200
    assert rig.ask(f"{WEB}/echo", "Impersonate-Group: x").status == 400


def test_nothing_that_proves_identity_reaches_the_backend(rig: Rig) -> None:
    seen = rig.echo(
        f"{WEB}/identity",
        *("X-Who: root", "X-Remote-User: root", "X-Remote-Group: system:masters"),
        *("X-Remote-Uid: 0", "X-Remote-Extra-Foo: 1", "Impersonate-Extra-Foo: 1"),
        *("Cookie: a=b", "X-Kept: 1", "X-Remote: kept", "X-Forwarded-Host: evil"),
    )
    assert ["x-forwarded-host", "bastion.example:8443"] in seen["headers"]
    names = {name for name, _ in seen["headers"]}
    assert {"cookie", "x-kept", "x-remote"} <= names
    assert not names & {"x-who", "authorization"}
    assert not [n for n in names if n.startswith(("x-remote-", "impersonate-"))]


def test_connection_cannot_drop_what_we_add(rig: Rig) -> None:
    drop = "Connection: X-Forwarded-For, X-Forwarded-Prefix, X-Forwarded-Uri"
    seen = dict(rig.echo(f"{WEB}/drop", drop)["headers"])
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-prefix"] == WEB
    assert seen["x-forwarded-uri"] == f"{WEB}/drop"


def refused(answer: Answer) -> list[Answer]:
    """Return it if it is none of the backend's."""
    return [answer] if answer.status != 200 else []


def test_certificate_of_an_authority_that_went_is_nobodys(tmp_path: Path) -> None:
    # On a connection that was made when the authority counted.
    with bastion_rig(tmp_path) as rig:
        jane, file = issued(rig.users, "jane"), Path(rig.users.certificate)
        (tmp_path / "next").mkdir()
        after = Authority(tmp_path / "next", "users from now on")
        with rig.program.dial(jane) as connection:
            assert ask(connection, f"{WEB}/echo", token=None).status == 200
            file.write_bytes(Path(after.certificate).read_bytes())
            (answer,) = wait_until(
                lambda: refused(ask(connection, f"{WEB}/echo", token=None)),
                *(15.0, "the new authority"),
            )
            assert answer.closes
            assert json.loads(answer.body) == {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": "Unauthorized: the client certificate is not trusted any "
                "more",
                "reason": "Unauthorized",
                "code": 401,
            }
        assert rig.ask(f"{WEB}/echo").status == 200
        assert (
            rig.ask(f"{WEB}/echo", token=None, pair=issued(after, "jane")).status == 200
        )
