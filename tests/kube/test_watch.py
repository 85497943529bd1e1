"""A kubeconfig that changes under a running proxy.

Issue 3: reloaded on change; one changed to rubbish keeps the old one and says so.
"""

import json
import logging
import os
from pathlib import Path

import pytest

from pyproxy.kube.config import Access, AccessError, ClientFlags, Current
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import Document, environment, one_context, write

pytestmark = pytest.mark.live

CLUSTER = {"server": "https://one"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kubeconfig of one context."""
    return save(tmp_path / "config", one_context(CLUSTER, {"token": "t"}))


def save(file: Path, document: Document | str) -> Path:
    """Put another file in its place, as editors and kubectl do."""
    text = document if isinstance(document, str) else json.dumps(document)
    other = file.with_name("other")
    other.write_text(text)
    os.replace(other, file)
    return file


def current(file: Path, **flags: str) -> Current:
    """Begin to follow one file."""
    said = ClientFlags(kubeconfig=str(file), **flags)  # type: ignore[arg-type]
    return Current(said, {}, clock=FakeClock())


async def token(access: Access) -> str:
    """Return the value of Authorization."""
    ((_, value),) = await access.credentials.headers()
    return value


def test_file_that_did_not_change_is_not_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = current(file)
    before = found.access
    monkeypatch.setattr("pyproxy.kube.config.watch.load", None)
    assert not found.poll()
    assert found.access is before


async def test_changed_server_and_token_are_taken(file: Path) -> None:
    found = current(file)
    save(file, one_context({"server": "https://two"}, {"token": "new"}))
    assert found.poll()
    assert found.access.server.host == "two"
    assert await token(found.access) == "Bearer new"
    assert not found.poll()


def test_new_access_keeps_credentials_that_are_the_same(file: Path) -> None:
    # So that a plugin is not asked, and nobody logs in, because of another context.
    document = one_context(CLUSTER, {"token": "t"})
    document["contexts"].append({"name": "y", "context": {}})
    found = current(file)
    before = found.access
    save(file, document)
    assert not found.poll()
    assert found.access.credentials is before.credentials
    save(file, one_context(CLUSTER, {"token": "t"}, namespace="n"))
    assert found.poll()
    assert found.access.namespace == "n"
    assert found.access.credentials is before.credentials


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- rubbish: hunter2", "expected a mapping, got a list"),
        (
            "users: [{name: u, user: {token: [hunter2",
            "did not find expected ',' or ']'",
        ),
        ("", 'context "x" does not exist'),
        (None, "no such file or directory"),
    ],
)
async def test_rubbish_keeps_the_old_one_and_is_said_once(
    file: Path, text: str | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = current(file)
    before = found.access
    os.unlink(file)
    if text is not None:
        save(file, text)
    for _ in range(3):
        assert not found.poll()
    assert found.access is before
    assert await token(before) == "Bearer t"
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "WARNING",
        "kubeconfig not reloaded, keeping the last",
    )
    assert why in vars(record)["why"]
    assert "hunter2" not in str(vars(record))
    caplog.set_level(logging.INFO)
    save(file, one_context({"server": "https://two"}, {"token": "t"}))
    assert found.poll()
    assert found.access.server.host == "two"
    assert caplog.records[-1].getMessage() == "kubeconfig reloaded"
    before = found.access
    assert not found.poll()
    assert found.access is before  # not read again
    save(file, text or "- rubbish")
    assert not found.poll()
    assert caplog.records[-1].levelname == "WARNING"  # the next trouble is news


def test_file_that_a_kubeconfig_names_may_come_after_it(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = current(file)
    save(file, one_context(CLUSTER, {"tokenFile": "late"}))
    assert not found.poll()
    assert not found.poll()
    (tmp_path / "late").write_text("t")
    assert found.poll()
    assert len(caplog.records) == 1


def test_context_chosen_at_the_start_stays(file: Path) -> None:
    # `kubectl config use-context prod` in another window.
    document = one_context(CLUSTER, {"token": "t"})
    document["clusters"].append({"name": "p", "cluster": {"server": "https://prod"}})
    document["contexts"].append({"name": "prod", "context": {"cluster": "p"}})
    save(file, document)
    found = current(file)
    save(file, {**document, "current-context": "prod"})
    assert not found.poll()
    assert (found.access.context, found.access.server.host) == ("x", "one")


def test_file_that_comes_later_is_found(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    write(files[1], one_context(CLUSTER, {"token": "t"}))
    env = environment(tmp_path, KUBECONFIG=":".join(map(str, files)))
    found = Current(ClientFlags(), env)
    assert found.access.server.host == "one"
    first = {"clusters": [{"name": "c", "cluster": {"server": "https://first"}}]}
    write(files[0], first)
    assert found.poll()
    assert found.access.server.host == "first"


def test_poll_tells_of_changed_credentials(tmp_path: Path, file: Path) -> None:
    (tmp_path / "token").write_text("one")
    save(file, one_context(CLUSTER, {"tokenFile": "token"}))
    found = current(file)
    generation = found.access.credentials.generation
    save(tmp_path / "token", "two")
    assert found.poll()
    assert found.access.credentials.generation > generation
    assert not found.poll()


def test_bad_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        current(tmp_path / "gone")


async def test_replaced_credentials_are_closed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = current(file)
    closed: list[object] = []
    old = found.access.credentials

    async def close(self: object) -> None:
        closed.append(self)

    monkeypatch.setattr(type(old), "close", close)
    save(file, one_context(CLUSTER, {"token": "new"}))
    assert found.poll()
    await found.settle()
    assert closed == [old]
    await found.close()
    assert closed == [old, found.access.credentials]
