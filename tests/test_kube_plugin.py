"""Credential plugins: the whole contract of client.authentication.k8s.io, and bad days.

Expectations: facts A5; client-go's exec_test (TestRefreshCreds, TestRoundTripper,
TestTLSCredentials, TestInstallHintRateLimit, TestAuthorizationHeaderPresentCancels...);
the real kubectl for what a plugin is told and for the text of failures.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyproxy.kube import ClientFlags, Credentials, CredentialsError, load, plugin, spawn
from pyproxy.kube.execinfo import read_answer
from pyproxy.kube.kubeconfig import EXEC_V1, EXEC_V1BETA1, Cluster, Exec
from pyproxy.kube.plugin import Plugin
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import (
    Document,
    KubectlProxy,
    Recorder,
    environment,
    one_context,
    write,
)
from tests.fakes.patience import until

LOGIN = Path(__file__).parent / "fakes" / "login.py"
SOON = "1970-01-12T14:46:40Z"  # 1,003,600 s: an hour after the fake clock's beginning


def answer(version: str = EXEC_V1, **status: str) -> str:
    """Return what a plugin prints."""
    document = {"kind": "ExecCredential", "apiVersion": version, "status": status}
    return json.dumps(document)


class Login:
    """A directory for `login.py`, and a kubeconfig that names it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.say(token="one")

    def say(self, **status: str) -> None:
        """Choose what it prints from now on."""
        (self.directory / "answer").write_text(answer(**status))

    def calls(self) -> list[Document]:
        """Return how it was called, one entry for each time."""
        file = self.directory / "calls"
        return (
            [*map(json.loads, file.read_text().splitlines())] if file.exists() else []
        )

    def open_gate(self) -> None:
        """Let it go on."""
        (self.directory / "gate").unlink()

    def spec(self, **more: object) -> Document:
        """Return the entry `exec`."""
        return {
            "apiVersion": EXEC_V1,
            "command": sys.executable,
            "args": [str(LOGIN), str(self.directory)],
            "interactiveMode": "Never",
            **more,
        }

    def kubeconfig(self, cluster: Document, **more: object) -> dict[str, str]:
        """Write one and return an environment that names it."""
        user = {"exec": self.spec(**more)}
        document = one_context({"server": "https://h", **cluster}, user)
        file = write(self.directory / "config", document)
        return environment(self.directory, KUBECONFIG=str(file), FROM_US="1")

    def credentials(self, **more: object) -> Credentials:
        """Return credentials of such a user."""
        env = self.kubeconfig({}, **more)
        return load(ClientFlags(), env, clock=self.clock).credentials


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """A plugin that gives the token `one`."""
    return Login(tmp_path)


async def token(of: Credentials) -> str:
    """Return the token shown."""
    ((_, value),) = await of.headers()
    return value.removeprefix("Bearer ")


async def complaint(of: Credentials) -> str:
    """Return why there are no credentials."""
    with pytest.raises(CredentialsError) as caught:
        await of.headers()
    return str(caught.value)


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
    assert await token(found) == "two"


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


# ------------------------------------------------------------------ bad days


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "decoding stdout: not an ExecCredential"),
        ("hunter2", "decoding stdout: expected a mapping, got str"),
        ("{{{ hunter2", "decoding stdout: yaml: "),
        ("[]", "decoding stdout: expected a mapping, got a list"),
        ('{"kind": "Pod"}', "decoding stdout: not an ExecCredential"),
        (
            answer(EXEC_V1BETA1, token="hunter2"),
            f"exec plugin is configured to use API version {EXEC_V1}, plugin ret",
        ),
        (
            f'{{"kind": "ExecCredential", "apiVersion": "{EXEC_V1}"}}',
            "exec plugin didn't return a status field",
        ),
        (answer(), "exec plugin didn't return a token or cert/key pair"),
        (
            answer(clientKeyData="hunter2"),
            "exec plugin returned only certificate or key, not both",
        ),
        (
            answer(clientCertificateData="hunter2", clientKeyData="hunter2"),
            "failed parsing client key/certificate: tls: failed to find any PEM data",
        ),
        (answer(token="hunter2\nX: y"), "token: has characters"),
        (
            answer(token="hunter2", expirationTimestamp="tomorrow"),
            "decoding stdout: expirationTimestamp is no time",
        ),
        (
            answer(token="hunter2", expirationTimestamp="2030-01-01T00:00:00"),
            "decoding stdout: expirationTimestamp has no time zone",
        ),
        (
            answer().replace("{}", '{"token": 5}'),
            "decoding stdout: Expected str, got int - at $.status.token",
        ),
    ],
)
def test_bad_answer_is_explained_and_not_quoted(output: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_answer(output.encode(), EXEC_V1)
    assert str(caught.value).startswith(why)
    assert "hunter2" not in str(caught.value)


def test_version_in_a_bad_answer_cannot_drive_a_terminal() -> None:
    with pytest.raises(ValueError, match=r"version U\+001B\[2J") as caught:
        read_answer(answer("\x1b[2J" + "x" * 999, token="t").encode(), EXEC_V1)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T01:00:10+01:00", 10),
        ("1970-01-01T00:00:10.123456789Z", 10.123456),
    ],
)
def test_expiry_is_rfc3339(text: str, seconds: float) -> None:
    output = answer(token="t", expirationTimestamp=text).encode()
    assert read_answer(output, EXEC_V1).expires_at == pytest.approx(seconds, abs=1e-5)


def test_yaml_is_an_answer_too() -> None:
    # client-go's decoder takes it, and some plugins are shell scripts.
    output = f"kind: ExecCredential\napiVersion: {EXEC_V1}\nstatus: {{token: t}}"
    found = read_answer(output.encode(), EXEC_V1)
    assert found.identity.authorization == "Bearer t"


async def test_failing_plugin_is_named_with_its_exit_code(login: Login) -> None:
    (login.directory / "code").write_text("7")
    why = await complaint(login.credentials())
    assert why.endswith(f"exec: executable {sys.executable} failed with exit code 7")


def shell(script: str, timeout_s: float = 10.0, **more: Any) -> Credentials:
    """Return credentials from a shell script."""
    spec = Exec(command="/bin/sh", args=("-c", script), api_version=EXEC_V1, **more)
    clock = FakeClock()
    source = Plugin(spec, Cluster(), b"", os.environ, clock, timeout_s=timeout_s)
    return Credentials(source)


async def test_plugin_that_hangs_is_killed_with_its_children() -> None:
    why = await complaint(shell("sleep 600 & sleep 600", timeout_s=0.2))
    assert why.endswith("exec: executable /bin/sh did not finish within 0.2 s")


async def test_plugin_that_is_killed_says_so() -> None:
    assert (await complaint(shell("kill -9 $$"))).endswith("was killed by signal 9")


async def test_plugin_that_prints_without_end_is_stopped() -> None:
    why = await complaint(shell("exec yes hunter2"))
    assert why.endswith("exec: executable /bin/sh printed more than 1 MiB")


async def test_child_that_keeps_stdout_open_does_not_keep_us_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Agents and caches that a plugin starts inherit its stdout.
    monkeypatch.setattr(spawn, "LEFTOVER_S", 0.01)
    os.mkfifo(tmp_path / "end")
    (tmp_path / "answer").write_text(answer(token="t"))
    found = shell(f"cat {tmp_path}/end & cat {tmp_path}/answer")
    try:
        assert await token(found) == "t"
    finally:
        with contextlib.suppress(OSError):
            os.close(os.open(tmp_path / "end", os.O_WRONLY | os.O_NONBLOCK))


async def test_program_that_is_no_program_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_bytes(b"\x7fELF")
    file.chmod(0o755)
    spec = Exec(command=str(file), api_version=EXEC_V1)
    found = Credentials(Plugin(spec, Cluster(), b"", {}, FakeClock()))
    assert await complaint(found) == (
        f"getting credentials: exec: {file}: exec format error"
    )


async def test_command_is_searched_in_path_and_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "login"
    script.write_text(f"#!/bin/sh\necho '{answer(token='t')}'\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)

    def found(path: str) -> Credentials:
        spec = Exec(command="login", api_version=EXEC_V1)
        source = Plugin(spec, Cluster(), b"", {"PATH": path}, FakeClock())
        return Credentials(source)

    assert await token(found(f"/nowhere:{tmp_path}")) == "t"
    for path in ("", ".", "/nowhere:."):
        assert "exec: executable login not found" in await complaint(found(path))


async def test_hint_is_given_ten_times_an_hour_and_cannot_drive_a_terminal(
    login: Login,
) -> None:
    hint = "install \x1b[31mit\nlike this"
    found = login.credentials(command="nosuch-login", installHint=hint)
    said = [await complaint(found) for _ in range(12)]
    assert all("exec: executable nosuch-login not found" in each for each in said)
    assert ["install U+001B[31mit\nlike this" in each for each in said] == (
        [True] * 10 + [False] * 2
    )
    assert "credential plugin that is not installed" in said[0]
    login.clock.now += 3600
    assert "install" in await complaint(found)


async def test_secrets_are_in_no_log(
    login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login.say(token="hunter2")
    found = login.credentials()
    assert await token(found) == "hunter2"
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)
    assert "hunter2" not in repr(found)


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


@pytest.mark.parametrize(
    ("spec", "output", "code"),
    [
        pytest.param({"command": "nosuch"}, "", 0, id="not found"),
        pytest.param({"command": "nosuch", "installHint": "a\x1bb"}, "", 0, id="hint"),
        pytest.param({}, answer(), 5, id="exit code"),
        pytest.param({}, answer(EXEC_V1BETA1, token="t"), 0, id="other version"),
        pytest.param({}, answer(), 0, id="nothing"),
        pytest.param({}, answer(clientKeyData="k"), 0, id="half a pair"),
        pytest.param(
            {"interactiveMode": "Always"}, answer(token="t"), 0, id="terminal"
        ),
    ],
)
async def test_failure_reads_as_kubectls(
    login: Login, spec: Document, output: str, code: int
) -> None:
    # Oracle: the body of kubectl proxy's 500.
    (login.directory / "answer").write_text(output)
    (login.directory / "code").write_text(str(code))
    env = login.kubeconfig({"server": "https://127.0.0.1:1"}, **spec)
    with KubectlProxy(env=env) as kubectl:
        status, body = kubectl.get()
    assert status == 500
    ours = await complaint(load(ClientFlags(), env).credentials)
    assert ours == body.rstrip("\n")
