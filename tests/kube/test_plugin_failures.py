"""Credential plugins on bad days: garbage, hangs, terminals, programs that are gone.

Expectations: issue 3; client-go's exec_test (TestRefreshCreds, TestInstallHint-);
the real kubectl for the text of failures.
"""

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pyproxy.kube.config import ClientFlags, Credentials, load, spawn
from pyproxy.kube.config.execinfo import read_answer
from pyproxy.kube.config.kubeconfig import EXEC_V1, EXEC_V1BETA1, Cluster, Exec
from pyproxy.kube.config.plugin import Plugin
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import Document, KubectlProxy
from tests.fakes.logins import Login, answer, complaint, token
from tests.fakes.patience import until

pytestmark = pytest.mark.live


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """A plugin that gives the token `one`."""
    return Login(tmp_path)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "exec plugin is configured to use API version client.authentication"),
        ("hunter2", "decoding stdout: expected a mapping, got str"),
        ("{{{ hunter2", "decoding stdout: json: "),
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
            "decoding stdout: expirationTimestamp is no time",
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


async def test_plugin_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; sleep 600"
    why = await complaint(shell(script, timeout_s=0.5))
    assert why.endswith("exec: executable /bin/sh did not finish within 0.5 s")
    child = int((tmp_path / "child").read_text())
    await until(lambda: has_ended(child))


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to notice."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


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


async def test_program_that_may_not_run_is_reported(tmp_path: Path) -> None:
    # Not as one that has to be installed: it is there.
    file = tmp_path / "login"
    file.write_text("#!/bin/sh\n")
    spec = Exec(command=str(file), api_version=EXEC_V1)
    found = Credentials(Plugin(spec, Cluster(), b"", {}, FakeClock()))
    why = await complaint(found)
    assert why == f"getting credentials: exec: {file}: permission denied"


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
    said = []
    for _ in range(12):
        said.append(await complaint(found))
        login.clock.now += 1
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
