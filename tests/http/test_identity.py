"""Who sends a request. Source of the vectors: the facts, B11."""

import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyproxy.dataplane import Certificate, Question
from pyproxy.http.identity import (
    CREDENTIAL_ID,
    Claim,
    HeaderNames,
    Right,
    Token,
    User,
    claim_of,
    impersonated,
    protocols_left,
)
from pyproxy.http.issuers import TwoIssuers
from pyproxy.sandbox.certificates import Authority
from tests.support.asking import ask

NOW_S = 1000.0
NAMES = HeaderNames()
JANE = Certificate("CN=jane,O=devs", "jane", ("devs", "ops"), 2000, b"der")
PROTOCOL = "base64url.bearer.authorization.k8s.io."


class Issuers:
    """Both, by common name."""

    def is_client(self, certificate: Certificate) -> bool:
        return certificate.common_name != "front"

    def is_front_proxy(self, certificate: Certificate) -> bool:
        return certificate.common_name == "front"


def claim(*headers: str, certificate: Certificate | None = None) -> Claim:
    return claim_of(asked(*headers, certificate=certificate), Issuers(), NAMES, now_s=0)


def asked(
    *headers: str, certificate: Certificate | None = None, upgrade: str = ""
) -> Question:
    return ask("/", "GET", "h", *headers, upgrade=upgrade, certificate=certificate)


def test_request_that_shows_nothing_claims_nothing() -> None:
    assert claim() == Claim()


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer t", "t"),
        ("bearer t", "t"),
        ("BEARER t more", "t"),
        ("  Bearer t", "t"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Bearer  t", ""),
        ("Basic YTpi", ""),
        ("t", ""),
    ],
)
def test_bearer_token_is_read_as_go_reads_it(value: str, token: str) -> None:
    found = claim(f"Authorization: {value}")
    assert found == (Claim(token=Token(token)) if token else Claim())


def test_first_line_of_authorization_counts() -> None:
    found = claim("Authorization: Basic x", "Authorization: Bearer t")
    assert found == Claim()


def test_certificate_names_user_and_groups_and_beats_a_token() -> None:
    found = claim("Authorization: Bearer t", certificate=JANE)
    assert found.token is None
    assert found.user is not None
    assert (found.user.name, found.user.groups) == ("jane", ("devs", "ops"))
    assert dict(found.user.extra)[CREDENTIAL_ID][0].startswith("X509SHA256=")


def test_certificate_without_a_name_is_no_opinion() -> None:
    nameless = JANE._replace(common_name="")
    found = claim("Authorization: Bearer t", certificate=nameless)
    assert found == Claim(token=Token("t"))


def test_certificate_that_has_ended_since_the_handshake_is_bad() -> None:
    question = asked(certificate=JANE)
    ended = claim_of(question, Issuers(), NAMES, now_s=2000.0)
    assert ended == Claim(is_bad=True, by_certificate=True)
    assert not claim_of(question, Issuers(), NAMES, now_s=1999.0).is_bad


FRONT = Certificate("CN=front", "front", (), 2000, b"der")
REMOTE = (
    "X-Remote-User: bob",
    "X-Remote-Uid: u1",
    "X-Remote-Group: a",
    "X-Remote-Group: b",
    "X-Remote-Extra-Scopes%2Fx: One",
    "X-Remote-Extra-scopes%2fX: two",
)


def test_front_proxy_says_whose_request_it_is() -> None:
    found = claim(*REMOTE, certificate=FRONT)
    extra = (("scopes/x", ("One", "two")),)
    assert found.user == User("bob", "u1", ("a", "b"), extra)


def test_headers_of_a_client_that_is_no_front_proxy_say_nothing() -> None:
    assert claim(*REMOTE) == Claim()
    found = claim(*REMOTE, certificate=JANE)
    assert found.user is not None
    assert found.user.name == "jane"


def test_front_proxy_without_a_user_may_show_a_token() -> None:
    found = claim("Authorization: Bearer t", certificate=FRONT)
    assert found == Claim(token=Token("t"))


def offered(*lines: str, upgrade: str = "websocket") -> Claim:
    headers = [f"Sec-WebSocket-Protocol: {line}" for line in lines]
    question = asked(*headers, upgrade=upgrade)
    return claim_of(question, Issuers(), NAMES, now_s=0)


def left(*lines: str) -> str | None:
    headers = [f"Sec-WebSocket-Protocol: {line}" for line in lines if ": " not in line]
    more = [line for line in lines if ": " in line]
    return protocols_left(asked(*headers, *more, upgrade="websocket"))


WORD = PROTOCOL + base64.urlsafe_b64encode(b"admin-token").decode().rstrip("=")


def test_token_among_subprotocols_is_taken_out() -> None:
    expected = Claim(token=Token("admin-token"))
    for lines in ((f"{WORD}, chat, v2",), ("chat", WORD, "v2")):
        assert offered(*lines) == expected
        assert left(*lines) == "chat, v2"
    assert left("chat") is None
    assert left(WORD) == ""
    assert left(WORD, "Authorization: Bearer t") == ""


@pytest.mark.parametrize(
    "lines",
    [
        (WORD,),
        (f"{WORD}, {WORD}, chat",),
        (f"{PROTOCOL}, chat",),
        (f"{PROTOCOL}a+b/, chat",),
        (f"{PROTOCOL}YWJj=, chat",),
        (f"{PROTOCOL}_w, chat",),
        (f"{PROTOCOL}YWRta, chat",),
    ],
)
def test_token_among_subprotocols_that_is_malformed_is_bad(
    lines: tuple[str, ...],
) -> None:
    assert offered(*lines) == Claim(is_bad=True)


def test_subprotocols_of_other_requests_are_not_read() -> None:
    assert offered(f"{WORD}, chat", upgrade="") == Claim()
    assert offered(f"{WORD}, chat", upgrade="SPDY/3.1") == Claim()
    assert offered("chat") == Claim()


def test_token_is_in_no_repr() -> None:
    assert "sesame" not in repr(claim("Authorization: Bearer sesame"))


# Impersonation


def test_impersonation_takes_a_right_for_each_header() -> None:
    found = impersonated(
        asked(
            "Impersonate-User: alice",
            "Impersonate-Uid: u1",
            "Impersonate-Group: devs",
            "Impersonate-Group: ops",
            "Impersonate-Extra-Scopes: view",
        )
    )
    assert found is not None
    assert found.user == User(
        "alice",
        "u1",
        ("devs", "ops", "system:authenticated"),
        (("scopes", ("view",)),),
    )
    assert found.rights == (
        Right("users", "alice"),
        Right("groups", "devs"),
        Right("groups", "ops"),
        Right("uids", "u1", group="authentication.k8s.io"),
        Right("userextras", "view", "", "authentication.k8s.io", "scopes"),
    )


def test_impersonated_service_account_has_its_groups() -> None:
    found = impersonated(asked("Impersonate-User: system:serviceaccount:ns:sa"))
    assert found is not None
    assert found.rights == (Right("serviceaccounts", "sa", "ns"),)
    assert found.user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:ns",
        "system:authenticated",
    )


def test_impersonated_anonymous_is_not_authenticated() -> None:
    found = impersonated(asked("Impersonate-User: system:anonymous"))
    assert found is not None
    assert found.user.groups == ("system:unauthenticated",)


def test_groups_without_a_user_are_refused() -> None:
    with pytest.raises(ValueError, match="without impersonating a user name"):
        impersonated(asked("Impersonate-Group: system:masters"))
    assert impersonated(asked()) is None


# Issuers


def in_der(pem: Path) -> bytes:
    return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)


def shown(pem: Path, *along: Path) -> Certificate:
    chain = b"".join(map(in_der, along))
    return Certificate("CN=x", "x", (), 2000, in_der(pem), chain)


def test_issuer_tells_what_a_certificate_is_good_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    users = Authority(tmp_path / "a", "users")
    fronts = Authority(tmp_path / "b", "users")  # the same name, another key
    pems = users.certificate.read_bytes(), fronts.certificate.read_bytes()
    user = shown(users.issue("x", []).certificate)
    front = shown(fronts.issue("x", []).certificate)
    both = TwoIssuers(*pems)
    assert (both.is_client(user), both.is_front_proxy(user)) == (True, False)
    assert (both.is_client(front), both.is_front_proxy(front)) == (False, True)
    named = TwoIssuers(*pems, names=("y",))
    assert not named.is_front_proxy(front)
    alone = TwoIssuers(pems[0], None)
    assert (alone.is_client(user), alone.is_front_proxy(user)) == (True, False)
    assert not TwoIssuers(None, pems[1]).is_client(front)


def test_intermediate_that_came_along_leads_to_its_own_root(tmp_path: Path) -> None:
    roots, middles = [], []
    for name in ("users", "fronts"):
        for part in (name, f"{name}-middle"):
            (tmp_path / part).mkdir()
        roots.append(Authority(tmp_path / name, name, below=1))
        middles.append(
            Authority(tmp_path / f"{name}-middle", "middle", above=roots[-1])
        )
    users, fronts = (each.certificate.read_bytes() for each in roots)
    both = TwoIssuers(users, fronts)
    files = [each.issue("x", []).certificate for each in middles]

    def kinds(certificate: Certificate) -> tuple[bool, bool]:
        return both.is_client(certificate), both.is_front_proxy(certificate)

    assert kinds(shown(files[0])) == (False, False)
    assert kinds(shown(files[0], middles[1].certificate)) == (False, False)
    # A certificate of a user is no authority.
    own = roots[0].issue("x", []).certificate
    assert kinds(shown(files[1], own)) == (False, False)
    assert kinds(shown(files[0], middles[0].certificate)) == (True, False)
    assert kinds(shown(files[1], own, middles[1].certificate)) == (False, True)
    # A resumed session is without them.
    assert kinds(shown(files[0])) == (True, False)
