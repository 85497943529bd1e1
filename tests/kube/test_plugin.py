"""Credential plugins: the whole contract of client.authentication.k8s.io.

Expectations: facts A5; client-go's exec_test (TestRefreshCreds, TestRoundTripper,
TestTLSCredentials, TestAuthorizationHeaderPresentCancelsExecAction); the real kubectl
for what a plugin is told.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.kube.config import ClientFlags, load, plugin
from pyproxy.kube.config.kubeconfig import EXEC_V1
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.kubectl import (
    Document,
    KubectlProxy,
    Recorder,
    one_context,
    write,
)
from tests.fakes.logins import LOGIN, Login, complaint, token
from tests.fakes.patience import until

pytestmark = pytest.mark.live

SOON = "1970-01-12T14:46:40Z"  # 1,003,600 s: an hour after the fake clock's beginning


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """A plugin that gives the token `one`."""
    return Login(tmp_path)


# ------------------------------------------------------------------ being asked


async def test_plugin_gets_arguments_variables_and_no_stdin(login: Login) -> None:
    env = [{"name": "MORE", "value": "2"}, {"name": "FROM_US", "value": "3"}]
    args = [str(LOGIN), str(login.directory), "a b", ""]
    found = login.credentials(args=args, env=env)
    assert await token(found) == "one"
    (call,) = login.calls()
    assert call["argv"] == ["a b", ""]
    assert (call["env"]["MORE"], call["env"]["FROM_US"]) == ("2", "3")
    assert call["env"]["HOME"] == str(login.directory)
    assert call["stdin"] == ""
    assert json.loads(call["env"]["KUBERNETES_EXEC_INFO"]) == {
        "kind": "ExecCredential",
        "apiVersion": EXEC_V1,
        "spec": {"interactive": False},
    }


async def test_stderr_passes_through(
    login: Login, capfd: pytest.CaptureFixture[str]
) -> None:
    await token(login.credentials())
    assert "hello from the plugin" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("mode", "terminal", "interactive"),
    [
        ("Never", True, False),
        ("IfAvailable", True, True),
        ("IfAvailable", False, False),
        ("Always", True, True),
    ],
)
async def test_plugin_may_ask_its_user_where_there_is_a_terminal(
    login: Login,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    terminal: bool,
    interactive: bool,
) -> None:
    monkeypatch.setattr(plugin, "has_terminal", lambda: terminal)
    await token(login.credentials(interactiveMode=mode))
    (call,) = login.calls()
    told = json.loads(call["env"]["KUBERNETES_EXEC_INFO"])["spec"]
    assert told == {"interactive": interactive}
    # One that asks shares our terminal, any other can be killed with its children.
    assert (call["session"] == os.getsid(0)) is interactive


async def test_always_interactive_without_a_terminal_is_an_error(login: Login) -> None:
    why = await complaint(login.credentials(interactiveMode="Always"))
    assert why == (
        "getting credentials: exec plugin cannot support interactive mode: standard"
        " input is not a terminal"
    )
    assert login.calls() == []


@pytest.mark.parametrize(
    "user",
    [
        {"token": "t"},
        {"username": "u", "password": "p"},
        {"client-certificate": "a.crt", "client-key": "a.key"},
    ],
)
async def test_plugin_is_not_asked_where_there_are_credentials(
    login: Login, user: Document
) -> None:
    authority(login.directory).issue("a", ["a"])
    document = one_context({"server": "https://h"}, {**user, "exec": login.spec()})
    file = str(write(login.directory / "config", document))
    await load(ClientFlags(kubeconfig=file), {}).credentials.headers()
    assert login.calls() == []


async def test_plugin_is_not_asked_for_an_http_server(login: Login) -> None:
    env = login.kubeconfig({"server": "http://h"})
    assert await load(ClientFlags(), env).credentials.headers() == ()
    assert login.calls() == []


# ------------------------------------------------------------------ keeping


async def test_answer_is_kept_until_it_expires(login: Login) -> None:
    login.say(token="one", expirationTimestamp=SOON)
    found = login.credentials()
    assert await token(found) == "one"
    assert found.fresh_for_s() == 3600
    login.say(token="two", expirationTimestamp="2001-01-01T01:00:00+01:00")
    login.clock.now += 3600
    assert await token(found) == "one"
    login.clock.now += 1
    generation = found.generation
    assert await token(found) == "two"
    assert found.generation > generation
    assert len(login.calls()) == 2


async def test_answer_without_expiry_is_kept_until_it_is_rejected(login: Login) -> None:
    found = login.credentials()
    assert await token(found) == "one"
    assert found.fresh_for_s() == float("inf")
    login.say(token="two")
    login.clock.now += 1e9
    assert await token(found) == "one"
    assert found.rejected()
    assert found.fresh_for_s() == 0
    assert await token(found) == "two"
    assert len(login.calls()) == 2


async def test_rejections_of_what_was_before_do_not_ask_again(login: Login) -> None:
    # Many requests are under way with the old token when the first 401 comes back.
    found = login.credentials()
    await token(found)
    old = found.generation
    login.clock.now += 60
    login.say(token="two")
    assert found.rejected(old)
    assert await token(found) == "two"
    assert found.rejected(old)  # knows which one it was
    assert found.rejected()  # does not, but is too early to be about the new one
    assert await token(found) == "two"
    assert len(login.calls()) == 2
    login.clock.now += 1
    assert found.rejected(found.generation)
    await token(found)
    assert len(login.calls()) == 3


async def test_failure_after_a_rejection_leaves_the_last_answer(
    login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    found = login.credentials()
    await token(found)
    login.clock.now += 60
    (login.directory / "code").write_text("3")
    found.rejected()
    assert await token(found) == "one"
    assert "credentials not renewed after a 401" in caplog.text
    (login.directory / "code").unlink()
    login.say(token="two")
    login.clock.now += 1
    assert await token(found) == "two"


async def test_failure_after_expiry_is_an_error_and_heals(login: Login) -> None:
    login.say(token="one", expirationTimestamp=SOON)
    found = login.credentials()
    await token(found)
    login.clock.now += 3601
    (login.directory / "code").write_text("3")
    assert "failed with exit code 3" in await complaint(found)
    (login.directory / "code").unlink()
    login.say(token="two")
    login.clock.now += 1
    assert await token(found) == "two"


@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param("1970-01-01T00:00:00Z", id="long ago"),
        pytest.param("1970-01-12T13:46:40Z", id="now"),
        pytest.param("1970-01-12T13:46:40.2Z", id="within the second"),
    ],
)
async def test_answer_that_is_expired_when_it_comes_serves_for_a_second(
    login: Login, expiry: str
) -> None:
    # Issue 11, 16: 124 runs in 5 s for a request that was never answered.
    login.say(token="one", expirationTimestamp=expiry)
    found = login.credentials()
    assert await token(found) == "one"
    assert found.fresh_for_s() == 1
    login.say(token="two", expirationTimestamp=expiry)
    login.clock.now += 0.9
    assert await token(found) == "one"
    login.clock.now += 0.2
    assert found.fresh_for_s() == 0
    assert await token(found) == "two"
    assert len(login.calls()) == 2


async def test_failure_stands_for_a_second(login: Login) -> None:
    (login.directory / "code").write_text("3")
    found = login.credentials()
    assert len({await complaint(found) for _ in range(5)}) == 1
    assert found.fresh_for_s() == 0
    assert len(login.calls()) == 1
    login.clock.now += 1
    await complaint(found)
    assert len(login.calls()) == 2


async def test_certificate_of_a_plugin_is_shown_and_its_change_noticed(
    login: Login,
) -> None:
    signer = authority(login.directory)
    pairs = [signer.issue(name, [name]) for name in ("a", "b")]

    def say(number: int) -> tuple[bytes, bytes]:
        pem = pairs[number].certificate.read_text(), pairs[number].key.read_text()
        login.say(clientCertificateData=pem[0], clientKeyData=pem[1])
        return pem[0].encode(), pem[1].encode()

    first = say(0)
    found = login.credentials()
    changes: list[int] = []
    found.on_change(lambda: changes.append(1))
    assert found.tls() is None
    assert await found.headers() == ()
    assert found.tls() == first
    second = say(1)
    login.clock.now += 60
    found.rejected()
    await found.headers()
    assert found.tls() == second
    assert len(changes) == 2


# ------------------------------------------------------------------ one at a time


@pytest.fixture
def gate(login: Login) -> None:
    """Hold the plugin up."""
    (login.directory / "gate").touch()


@pytest.mark.usefixtures("gate")
async def test_everybody_who_waits_shares_one_run(login: Login) -> None:
    found = login.credentials()
    waiting = [asyncio.create_task(token(found)) for _ in range(5)]
    await until(login.calls)
    login.open_gate()
    assert await asyncio.gather(*waiting) == ["one"] * 5
    assert len(login.calls()) == 1


@pytest.mark.usefixtures("gate")
async def test_everybody_who_waits_shares_a_failure(login: Login) -> None:
    (login.directory / "code").write_text("1")
    found = login.credentials()
    waiting = [asyncio.create_task(complaint(found)) for _ in range(3)]
    await until(login.calls)
    login.open_gate()
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert len(login.calls()) == 1


@pytest.mark.usefixtures("gate")
async def test_run_goes_on_when_the_first_who_asked_has_gone(
    login: Login,
) -> None:
    found = login.credentials()
    first = asyncio.create_task(token(found))
    await until(login.calls)
    first.cancel()
    second = asyncio.create_task(token(found))
    await asyncio.gather(first, return_exceptions=True)
    login.open_gate()
    assert await second == "one"
    assert len(login.calls()) == 1


@pytest.mark.usefixtures("gate")
async def test_close_ends_a_run(login: Login) -> None:
    found = login.credentials()
    waiting = asyncio.create_task(token(found))
    await until(login.calls)
    await found.close()  # that the child is gone is for the fixture to see
    with pytest.raises(asyncio.CancelledError):
        await waiting


# ------------------------------------------------------------------ kubectl as oracle


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    """Signs the apiserver."""
    return authority(tmp_path / "pki")


@pytest.fixture
def apiserver(signer: Authority) -> Iterator[Recorder]:
    """Takes every token."""
    with Recorder(signer.issue("server", ["127.0.0.1", "name"])) as server:
        yield server


@pytest.mark.parametrize("provide", [False, True])
@pytest.mark.parametrize("more", [False, True])
async def test_plugin_is_told_what_kubectl_tells_it(
    login: Login, apiserver: Recorder, signer: Authority, provide: bool, more: bool
) -> None:
    cluster: Document = {
        "server": f"{apiserver.url}/",
        "certificate-authority": str(signer.certificate),
    }
    if more:
        name = "client.authentication.k8s.io/exec"
        cluster |= {
            "tls-server-name": "name",
            "disable-compression": True,
            "extensions": [
                {"name": name, "extension": {"audience": "x", "n": [1, 2.5]}}
            ],
        }
    env = login.kubeconfig(cluster, provideClusterInfo=provide)
    with KubectlProxy(env=env) as kubectl:
        assert kubectl.get()[0] == 200
    access = load(ClientFlags(), env)
    assert await token(access.credentials) == "one"
    theirs, ours = login.calls()
    infos = [
        json.loads(call["env"].pop("KUBERNETES_EXEC_INFO")) for call in (theirs, ours)
    ]
    assert infos[0] == infos[1]
    for noise in ("SHLVL", "_", "LC_CTYPE"):
        theirs["env"].pop(noise, None)
        ours["env"].pop(noise, None)
    assert theirs["env"] == ours["env"]
    assert (theirs["argv"], theirs["stdin"]) == (ours["argv"], ours["stdin"])
    assert ("Authorization", "Bearer one") in apiserver.headers()
