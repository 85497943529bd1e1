"""Who we are to the apiserver. Where kubectl is, it has to pass the same test."""

import time

import pytest

from tests.fakes.desk import Desk, either, write_kubeconfig
from tests.fakes.office import Office
from tests.fakes.recorder import Recorder, Seen, pair_for
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test
FOLLOW_S = 15.0  # for a change on disk, which is looked for every other second


@either
@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ({"token": "sesame"}, "Bearer sesame"),
        ({"username": "ann", "password": "s:same"}, "Basic YW5uOnM6c2FtZQ=="),
    ],
    ids=["token", "basic"],
)
def test_user_of_the_kubeconfig_is_who_we_are(
    office: Office, kind: type[Desk], user: dict[str, str], shown: str
) -> None:
    office.write(user)
    with office.proxy(kind) as proxy:
        assert proxy.ask("/a").status == 200
        assert office.upstream.wait_for().get("authorization") == shown


def test_user_without_credentials_is_nobody(office: Office) -> None:
    office.write({"as": ""})  # kubectl asks the terminal for a name and a password
    with office.proxy(Desk) as proxy:
        assert proxy.ask("/a").status == 200
        assert office.upstream.wait_for().get("authorization") is None


@either
def test_token_file_wins_over_token(office: Office, kind: type[Desk]) -> None:
    (office.directory / "token").write_text("from-file\n")
    office.write({"token": "sesame", "tokenFile": str(office.directory / "token")})
    with office.proxy(kind) as proxy:
        proxy.ask("/a")
        assert office.upstream.wait_for().get("authorization") == "Bearer from-file"


@either
def test_clients_own_authorization_wins(office: Office, kind: type[Desk]) -> None:
    with office.proxy(kind) as proxy:
        proxy.ask("/a", Authorization="Bearer mine")
        proxy.ask("/a")
        seen = [each.all("authorization") for each in office.upstream.seen]
        assert seen == [["Bearer mine"], ["Bearer sesame"]]


@either
def test_authorization_without_a_value_is_none(
    office: Office, kind: type[Desk]
) -> None:
    with office.proxy(kind) as proxy:
        proxy.ask("/a", Authorization="", User_Agent="")
        seen = office.upstream.wait_for()
        assert seen.all("authorization") == ["Bearer sesame"]
        assert len(seen.all("user-agent")) == 1
        assert seen.get("user-agent")


@either
def test_empty_ca_file_trusts_nobody(office: Office, kind: type[Desk]) -> None:
    file = office.directory / "empty"
    file.touch()
    office.write(None, trusts=False, **{"certificate-authority": str(file)})
    with office.proxy(kind) as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        assert answer.body.startswith(b"tls: ")


@either
def test_client_certificate_is_shown(office: Office, kind: type[Desk]) -> None:
    pair = office.pair("ann")
    office.write(
        {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    )
    with office.proxy(kind) as proxy:
        proxy.ask("/a")
        seen = office.upstream.wait_for()
        assert (seen.certificate, seen.get("authorization")) == ("ann", None)


@either
def test_impersonation_is_sent_unless_the_client_has_its_own(
    office: Office, kind: type[Desk]
) -> None:
    flags = ["--as=ann", "--as-group=a", "--as-group=b", "--as-uid=7"]
    with office.proxy(kind, *flags, "--as-user-extra=a/b=c") as proxy:
        proxy.ask("/a")
        proxy.ask("/a", Impersonate_User="bob")
        ours, theirs = office.upstream.seen
    assert impersonation(ours) == [
        ("impersonate-extra-a%2fb", "c"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-uid", "7"),
        ("impersonate-user", "ann"),
    ]
    assert impersonation(theirs) == [("impersonate-user", "bob")]


def impersonation(seen: Seen) -> list[tuple[str, str]]:
    """Return these headers, sorted."""
    return sorted(pair for pair in seen.headers if pair[0].startswith("impersonate-"))


@either
def test_http_server_gets_no_credentials_but_impersonation(
    office: Office, kind: type[Desk]
) -> None:
    with Recorder(None) as plain:
        office.write(server=plain.url, trusts=False)
        with office.proxy(kind, "--as=ann") as proxy:
            assert proxy.ask("/a").status == 200
            seen = plain.wait_for()
            assert seen.get("authorization") is None
            assert seen.get("impersonate-user") == "ann"


@either
def test_server_is_dialed_by_its_name_and_asked_for_another(
    office: Office, kind: type[Desk]
) -> None:
    url = office.upstream.url.replace("127.0.0.1", "localhost")
    office.write(server=url)
    with office.proxy(kind) as proxy:
        proxy.ask("/a")
        assert office.upstream.wait_for().get("host") == url.removeprefix("https://")
    with office.proxy(
        kind, f"--server={office.upstream.url}", "--tls-server-name=localhost"
    ) as proxy:
        proxy.ask("/a")
    assert office.upstream.names == ["localhost", "localhost"]


@either
@pytest.mark.parametrize(
    "cluster",
    [{"trusts": False}, {"tls-server-name": "other.example"}],
    ids=["authority unknown", "name wrong"],
)
def test_server_not_to_be_trusted_is_an_error_of_ours(
    office: Office, kind: type[Desk], cluster: dict[str, str]
) -> None:
    office.write(None, **cluster)
    with office.proxy(kind) as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        assert b"certificate" in answer.body
        assert answer.get("content-type") == "text/plain; charset=utf-8"
    with office.proxy(kind, "--insecure-skip-tls-verify") as proxy:
        assert proxy.ask("/a").status == 200


@either
@pytest.mark.parametrize("upgrade", [False, True], ids=["plain", "upgrade"])
def test_server_not_to_be_reached_is_an_error_of_ours(
    office: Office, kind: type[Desk], free_port: int, upgrade: bool
) -> None:
    office.write(server=f"https://127.0.0.1:{free_port}")
    lines = "Connection: Upgrade\r\nUpgrade: websocket\r\n" if upgrade else ""
    with office.proxy(kind) as proxy:
        head = f"GET /a HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
        answer = proxy.say(head.encode())
        assert answer.status == 500
        assert b"connection refused" in answer.body
        assert answer.get("x-content-type-options") == "nosniff"


@either
def test_plugin_runs_once_and_not_for_clients_with_their_own(
    office: Office, kind: type[Desk]
) -> None:
    plugin = office.plugin("fresh")
    # One that asks for no certificate: kubectl runs the plugin for that, too.
    with Recorder(pair_for(office.issuer)) as upstream:
        office.write(plugin.user, server=upstream.url)
        with office.proxy(kind) as proxy:
            proxy.ask("/a", Authorization="Bearer mine")
            assert plugin.runs == 0
            for _ in range(3):
                proxy.ask("/a")
            assert plugin.runs == 1
            seen = [each.get("authorization") for each in upstream.seen]
            assert seen == ["Bearer mine", *["Bearer fresh"] * 3]


@either
@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param("2020-01-01T00:00:00Z", id="long ago"),
        pytest.param("0001-01-01T00:00:00Z", id="Go's zero"),
    ],
)
def test_token_that_is_expired_when_it_comes_serves_who_waited(
    office: Office, kind: type[Desk], expiry: str
) -> None:
    # Issue 11, 16 and 17: no answer at all, and 25 runs a second.
    plugin = office.plugin()
    plugin.give_new_ones(expirationTimestamp=expiry)
    with Recorder(pair_for(office.issuer)) as upstream:
        office.write(plugin.user, server=upstream.url)
        with office.proxy(kind) as proxy:
            for _ in range(3):
                assert proxy.ask("/a").status == 200
            assert plugin.runs <= 3  # kubectl: one for each; we: one a second
            seen = {each.get("authorization") for each in upstream.seen}
            assert seen <= {f"Bearer {number}" for number in range(1, 4)}


def test_plugin_of_expired_tokens_runs_once_a_second(office: Office) -> None:
    plugin = office.plugin()
    plugin.give_new_ones(expirationTimestamp="2020-01-01T00:00:00Z")
    office.write(plugin.user)
    with office.proxy(Desk) as proxy:
        began = time.monotonic()
        while time.monotonic() < began + 2.5:
            assert proxy.ask("/a").status == 200
        assert plugin.runs <= 1 + time.monotonic() - began


@either
def test_plugin_that_fails_is_an_error_of_ours(
    office: Office, kind: type[Desk]
) -> None:
    office.write(office.plugin("x", before="exit 3").user)
    with office.proxy(kind) as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        assert answer.body.startswith(b"getting credentials: ")
        assert b"exit code 3" in answer.body


@either
def test_plugin_may_give_a_certificate(office: Office, kind: type[Desk]) -> None:
    pair = office.pair("robot")
    plugin = office.plugin(
        clientCertificateData=pair.certificate.read_text(),
        clientKeyData=pair.key.read_text(),
    )
    office.write(plugin.user)
    with office.proxy(kind) as proxy:
        assert proxy.ask("/a").status == 200
        assert office.upstream.wait_for().certificate == "robot"


@either
def test_environment_names_the_kubeconfig(office: Office, kind: type[Desk]) -> None:
    file = office.write()
    environment = {"KUBECONFIG": f"/none:{file}"}
    with kind(office.directory / "p", environment=environment) as proxy:
        assert proxy.ask("/a").status == 200


def test_token_file_that_changes_is_followed(office: Office) -> None:
    file = office.directory / "token"
    file.write_text("one")
    office.write({"tokenFile": str(file)})
    with office.proxy(Desk) as proxy:
        proxy.ask("/a")
        file.write_text("two")

        def sends_two() -> bool:
            proxy.ask("/a")
            return office.upstream.seen[-1].get("authorization") == "Bearer two"

        wait_until(sends_two, FOLLOW_S)


def test_client_certificate_that_changes_is_followed(office: Office) -> None:
    pair = office.pair("ann")
    office.write(
        {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    )
    with office.proxy(Desk) as proxy:
        proxy.ask("/a")
        other = office.pair("bob")
        pair.key.write_bytes(other.key.read_bytes())
        pair.certificate.write_bytes(other.certificate.read_bytes())

        def is_bob() -> bool:
            assert proxy.ask("/a").status == 200
            return office.upstream.seen[-1].certificate == "bob"

        wait_until(is_bob, FOLLOW_S)


def test_kubeconfig_that_changes_is_followed_and_rubbish_is_not(office: Office) -> None:
    issuer = office.issuer
    with Recorder(pair_for(issuer)) as other:
        office.write()
        with office.proxy(Desk) as proxy:
            assert proxy.ask("/a").status == 200
            office.file.write_text("{ rubbish")
            wait_until(lambda: "kubeconfig not reloaded" in proxy.stderr, FOLLOW_S)
            assert proxy.ask("/a").status == 200
            office.write({"token": "second"}, server=other.url)
            wait_until(lambda: proxy.ask("/a") and other.seen, FOLLOW_S)
            assert other.seen[0].get("authorization") == "Bearer second"
            # No request ever goes to one server with what is meant for the other.
            tokens = {each.get("authorization") for each in office.upstream.seen}
            assert tokens == {"Bearer sesame"}


def test_context_stays_the_one_of_the_start(office: Office) -> None:
    entry = {
        "server": office.upstream.url,
        "certificate-authority": str(office.issuer.certificate),
    }
    one, two = (entry, {"token": "one"}), (entry, {"token": "two"})
    write_kubeconfig(office.file, {"one": one, "two": two})
    with office.proxy(Desk, "--log-level=info") as proxy:
        proxy.ask("/a")
        # `kubectl config use-context two` in another window, and a new token.
        write_kubeconfig(office.file, {"two": two, "one": (entry, {"token": "uno"})})
        wait_until(lambda: "kubeconfig reloaded" in proxy.stderr, FOLLOW_S)

        def is_uno() -> bool:
            proxy.ask("/a")
            return office.upstream.seen[-1].get("authorization") == "Bearer uno"

        wait_until(is_uno, FOLLOW_S)
        tokens = {seen.get("authorization") for seen in office.upstream.seen}
        assert tokens == {"Bearer one", "Bearer uno"}


def test_no_secret_is_ever_logged(office: Office) -> None:
    # CVE-2019-11250, CVE-2020-8565.
    office.write({"token": "sesame"})
    flags = ["-v=9", "--access-log", "--admin-address=127.0.0.1:0"]
    with office.proxy(Desk, *flags) as proxy:
        proxy.ask("/a?token=sesame", Cookie="sesame", Authorization="Bearer sesame")
        proxy.ask("/a")
        office.file.write_text("users: [{name: x, user: {token: sesame")
        wait_until(lambda: "kubeconfig not reloaded" in proxy.stderr, FOLLOW_S)
        assert "sesame" not in proxy.stderr + proxy.stdout
