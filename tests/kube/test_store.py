"""What a store holds, and what its handlers are told."""

import logging

import pytest

from pyproxy.kube.objects import ObjectMeta, Service
from pyproxy.kube.store import Store
from tests.support.kube_following import Notes


def made(name: str, version: int, uid: str = "u", **labels: str) -> Service:
    """Return a Service of the namespace x."""
    meta = ObjectMeta(
        name=name, namespace="x", uid=uid, resource_version=str(version), labels=labels
    )
    return Service(metadata=meta)


def labelled() -> tuple[Store[Service], Notes]:
    """Return a store with an index by the values of labels, and a handler of it."""
    store: Store[Service] = Store({"label": lambda s: s.metadata.labels.values()})
    notes = Notes()
    store.add_handler(notes)
    return store, notes


def test_upsert_and_delete_tell_handlers() -> None:
    store, notes = labelled()
    store.upsert(made("a", 1))
    store.upsert(made("a", 2))
    store.delete("x/a")
    store.delete("x/a")
    assert notes.lines == ["+a", "~a", "-a"]
    assert not store.objects


def test_upsert_of_the_same_version_tells_nothing() -> None:
    store, notes = labelled()
    store.upsert(made("a", 1))
    store.upsert(made("a", 1))
    store.upsert(made("a", 1, uid="another"))
    assert notes.lines == ["+a", "~a"]


def test_replace_tells_the_difference_and_synced_once() -> None:
    store, notes = labelled()
    for _ in range(2):
        replacement = store.replace()
        replacement.take(made("a", 1))
        replacement.take(made("b", 2))
        assert not store.is_synced or notes.lines[-1] == "synced"
        replacement.finish()
    assert notes.lines == ["+a", "+b", "synced"]
    replacement = store.replace()
    replacement.take(made("b", 3))
    replacement.keep("x/unread")
    replacement.finish()
    assert notes.lines[3:] == ["~b", "-a"]


def test_replace_that_is_given_up_deletes_nothing() -> None:
    store, notes = labelled()
    store.upsert(made("a", 1))
    store.replace().take(made("b", 2))
    assert sorted(store.objects) == ["x/a", "x/b"]
    assert notes.lines == ["+a", "+b"]


def test_index_follows_objects_and_forgets_values() -> None:
    store, _ = labelled()
    store.upsert(made("a", 1, l="one", m="two"))
    store.upsert(made("b", 2, l="one"))
    assert [each.metadata.name for each in store.by("label", "one")] == ["a", "b"]
    store.upsert(made("a", 3, l="two"))
    assert [each.metadata.name for each in store.by("label", "one")] == ["b"]
    assert [each.metadata.resource_version for each in store.by("label", "two")] == [
        "3"
    ]
    store.upsert(made("a", 4, l="two"))
    assert [each.metadata.resource_version for each in store.by("label", "two")] == [
        "4"
    ]
    store.delete("x/a")
    store.delete("x/b")
    assert store.by("label", "two") == []
    assert store._indexed == {"label": {}}


def test_late_handler_is_told_everything() -> None:
    store, _ = labelled()
    replacement = store.replace()
    replacement.take(made("a", 1))
    replacement.finish()
    late = Notes()
    store.add_handler(late)
    assert late.lines == ["+a", "synced"]


async def test_wait_synced_returns_after_a_whole_list() -> None:
    store, _ = labelled()
    assert not store.is_synced
    store.replace().finish()
    await store.wait_synced()


def test_handler_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Notes):
        def on_upsert(self, key: str, old: Service | None, new: Service) -> None:
            raise RuntimeError(key)

    store: Store[Service] = Store()
    notes = Notes()
    store.add_handler(Broken())
    store.add_handler(notes)
    store.upsert(made("a", 1))
    assert notes.lines == ["+a"]
    assert caplog.record_tuples == [
        ("pyproxy.kube.store", logging.ERROR, "handler failed")
    ]


def test_version_is_no_part_of_equality() -> None:
    assert made("a", 1) == made("a", 2)
    assert made("a", 1) != made("a", 1, uid="another")
    assert made("a", 1) != made("a", 1, l="one")
    assert ObjectMeta() != 7
