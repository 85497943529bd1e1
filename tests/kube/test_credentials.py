"""Credentials that change on disk: read again, kept when they break, never told.

Expectations: facts A5 and client-go's token_source_test (TestCachingTokenSource,
TestTokenSourceTransportRoundTrip), ca_rotation_test (TestEmptyCAFileRotationLifecycle)
and cert_rotation_test. Ours looks at files every few seconds, not every five minutes.
"""

import base64
import os
from pathlib import Path

import pytest

from pyproxy.kube.config import AccessError, ClientFlags, Credentials, files, load
from pyproxy.kube.config.errors import neutral
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import Document, one_context, write

pytestmark = pytest.mark.live


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still."""
    return FakeClock()


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    """Signs `a` and `b`."""
    made = authority(tmp_path)
    made.issue("a", ["a"])
    made.issue("b", ["b"])
    return made


def credentials(
    directory: Path, clock: FakeClock, user: Document, **cluster: object
) -> Credentials:
    """Return those of one user."""
    document = one_context({"server": "https://h", **cluster}, user)
    file = str(write(directory / "config", document))
    return load(ClientFlags(kubeconfig=file), {}, clock=clock).credentials


async def value(of: Credentials) -> str:
    """Return the value of Authorization."""
    ((name, text),) = await of.headers()
    assert name == "Authorization"
    return text


def replace(file: Path, content: bytes | str) -> None:
    """Write another file in its place, as kubelets and editors do."""
    other = file.with_name("other")
    other.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(other, file)


# ------------------------------------------------------------------ token files


async def test_token_file_is_read_again_when_its_minute_is_nearly_over(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "token").write_text("one\n")
    found = credentials(tmp_path, clock, {"tokenFile": "token"})
    assert await value(found) == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    clock.now += 49
    assert await value(found) == "Bearer one"
    assert found.fresh_for_s() == 1
    clock.now += 1
    assert found.fresh_for_s() == 0
    assert await value(found) == "Bearer two"
    assert found.fresh_for_s() == 50


async def test_poll_sees_a_new_token_at_once(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "token").write_text("one")
    found = credentials(tmp_path, clock, {"tokenFile": "token"})
    calls: list[int] = []
    found.on_change(lambda: calls.append(found.generation))
    first = found.generation
    assert not found.poll()
    replace(tmp_path / "token", "two")
    assert found.poll()
    second = found.generation
    assert second > first
    assert calls == [second]
    assert await value(found) == "Bearer two"
    assert not found.poll()
    replace(tmp_path / "token", " two ")  # another file, and still the same token
    assert not found.poll()
    assert found.generation == second


async def test_poll_reads_what_stat_does_not_show_when_the_minute_is_over(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("one")
    found = credentials(tmp_path, clock, {"tokenFile": "token"})
    monkeypatch.setattr(files, "stamps", lambda _: [])
    found.poll()
    replace(tmp_path / "token", "two")
    assert not found.poll()
    clock.now += 50
    assert found.poll()


@pytest.mark.parametrize("trouble", ["gone", "empty", "blank", "control", "huge"])
async def test_last_good_token_stays(
    tmp_path: Path,
    clock: FakeClock,
    trouble: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2")
    user = {"tokenFile": "token", "token": "fallback"}
    found = credentials(tmp_path, clock, user)
    first = found.generation
    contents = {
        "empty": "",
        "blank": " \n",
        "control": "hunter3\nx",
        "huge": "h" * 5_000_000,
    }
    file.unlink()
    if trouble in contents:
        file.write_text(contents[trouble])
    for _ in range(3):
        found.poll()
        clock.now += 60
        assert await value(found) == "Bearer hunter2"
    assert found.generation == first
    assert len(caplog.records) == 1  # once per trouble
    assert "hunter" not in caplog.text + repr(vars(caplog.records[0]))
    replace(file, "good")
    assert found.poll()
    assert await value(found) == "Bearer good"


async def test_token_beside_an_unreadable_file_helps_until_it_can_be_read(
    tmp_path: Path, clock: FakeClock
) -> None:
    found = credentials(tmp_path, clock, {"tokenFile": "token", "token": "fallback"})
    assert await value(found) == "Bearer fallback"
    (tmp_path / "token").write_text("file")
    found.poll()
    assert await value(found) == "Bearer file"


def test_empty_token_file_alone_is_an_error(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(AccessError) as caught:
        credentials(tmp_path, clock, {"tokenFile": "token"})
    text = f'error: read empty token from file "{tmp_path}/token"'
    assert caught.value.text == text


async def test_rejected_token_is_read_again_at_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "token").write_text("one")
    found = credentials(tmp_path, clock, {"tokenFile": "token"})
    assert await value(found) == "Bearer one"
    first = found.generation
    assert not found.rejected(first)  # nothing else to show
    (tmp_path / "token").write_text("two")
    assert found.rejected(first)
    assert await value(found) == "Bearer two"
    assert found.generation > first
    assert found.rejected(first)  # a late 401 about the old one
    assert await value(found) == "Bearer two"


async def test_fixed_credentials_are_for_good(tmp_path: Path, clock: FakeClock) -> None:
    found = credentials(tmp_path, clock, {"token": "t"})
    assert not found.refreshable
    assert not found.rejected()
    assert found.fresh_for_s() == float("inf")
    assert not found.poll()
    await found.close()


# ------------------------------------------------------------------ certificates


def test_certificate_files_are_read_again_once_both_fit(
    tmp_path: Path,
    clock: FakeClock,
    signer: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read = {
        n: (tmp_path / n).read_bytes() for n in ("a.crt", "a.key", "b.crt", "b.key")
    }
    user = {"client-certificate": "a.crt", "client-key": "a.key"}
    found = credentials(tmp_path, clock, user)
    assert found.tls() == (read["a.crt"], read["a.key"])
    first = found.generation
    replace(tmp_path / "a.crt", read["b.crt"])
    assert not found.poll()
    assert found.tls() == (read["a.crt"], read["a.key"])
    assert "credentials not reloaded" in caplog.text
    replace(tmp_path / "a.key", read["b.key"])
    assert found.poll()
    assert found.tls() == (read["b.crt"], read["b.key"])
    assert found.generation > first


@pytest.mark.usefixtures("signer")
def test_certificate_data_is_for_good(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    # Also where only one half is data: client-go reloads pairs of files alone.
    key = base64.b64encode((tmp_path / "a.key").read_bytes()).decode()
    user = {"client-certificate": "a.crt", "client-key-data": key}
    found = credentials(tmp_path, clock, user)
    before = found.tls()
    replace(tmp_path / "a.crt", (tmp_path / "b.crt").read_bytes())
    assert not found.poll()
    assert found.tls() == before
    assert caplog.records == []  # not even looked at


def test_changed_ca_is_read_again_and_rubbish_or_nothing_keeps_the_last(
    tmp_path: Path, clock: FakeClock, signer: Authority
) -> None:
    first = signer.certificate.read_bytes()
    second = authority(tmp_path / "next").certificate.read_bytes()
    found = credentials(
        tmp_path, clock, {"token": "t"}, **{"certificate-authority": "ca.crt"}
    )
    for content in (b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\n"):
        replace(signer.certificate, content)
        assert not found.poll()
        assert found.authority() == first
    signer.certificate.unlink()
    assert not found.poll()
    replace(signer.certificate, second)
    assert found.poll()
    assert found.authority() == second


def test_ca_file_that_was_empty_is_taken_when_it_is_written(
    tmp_path: Path, clock: FakeClock, signer: Authority
) -> None:
    (tmp_path / "late").touch()
    found = credentials(
        tmp_path, clock, {"token": "t"}, **{"certificate-authority": "late"}
    )
    assert found.authority() == b""
    replace(tmp_path / "late", signer.certificate.read_bytes())
    assert found.poll()
    assert found.authority() == signer.certificate.read_bytes()


def test_credentials_that_replace_others_have_another_generation(
    tmp_path: Path, clock: FakeClock
) -> None:
    # Verdicts are remembered by generation: the old token must not look like the new.
    one = credentials(tmp_path, clock, {"token": "one"})
    two = credentials(tmp_path, clock, {"token": "two"})
    assert one.generation != two.generation


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain\n\ttext é 漢 🙂", "plain\n\ttext é 漢 🙂"),
        ("\x1b[31mred", "U+001B[31mred"),
        ("a\rb\x07", "aU+000DbU+0007"),
        ("\u202eabc", "U+202Eabc"),
    ],
)
def test_control_characters_are_spelled_out(text: str, plain: str) -> None:
    assert neutral(text) == plain
