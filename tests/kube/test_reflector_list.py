"""How a reflector takes over what is there: streaming list, pages, their trouble."""

import asyncio

from tests.support.kube_following import following
from tests.support.kube_server import (
    Answer,
    Asked,
    bookmark,
    listed,
    service,
    status,
    until,
)

REFUSAL = status(422, "Invalid", "sendInitialEvents is forbidden for watch")


async def rest(answer: Answer) -> None:
    """Leave a watch open."""
    if not answer.has_begun:
        answer.begin()
    await asyncio.Event().wait()


async def test_streaming_list_is_taken_over_at_its_bookmark() -> None:
    # KEP-3157: ADDED for everything, then a bookmark that says that this was all.
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.event("ADDED", service("a", 5))
        await answer.event("BOOKMARK", bookmark(7))
        await answer.event("ADDED", service("b", 6))
        await answer.event("BOOKMARK", bookmark(9, ends_list=True))
        await answer.event("MODIFIED", service("a", 10))
        await answer.event("DELETED", service("b", 11))
        await rest(answer)

    async with following(serve, labels="a=b,!c", fields="metadata.name=n") as all_of_it:
        await all_of_it.told("+a", "+b", "synced", "~a", "-b")
        assert all_of_it.reflector.version == "11"
    (asked,) = all_of_it.script.asked
    assert asked.query == {
        "timeoutSeconds": "450",
        "watch": "1",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "labelSelector": "a=b,!c",
        "fieldSelector": "metadata.name=n",
    }


async def test_streaming_list_not_offered_lists_in_pages_and_watches() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        if "sendInitialEvents" in asked.query:
            await answer.document(REFUSAL, 422)
        elif asked.is_watch:
            await answer.event("ADDED", service("c", 8))
            await rest(answer)
        elif "continue" in asked.query:
            await answer.document(listed([service("b", 6)], 7))
        else:
            await answer.document(listed([service("a", 5)], 7, "next"))

    async with following(serve) as all_of_it:
        await all_of_it.told("+a", "+b", "synced", "+c")
    first, one, two, watch = all_of_it.script.asked
    assert first.is_watch
    assert one.query == {"limit": "500"}
    assert two.query == {"limit": "500", "continue": "next"}
    assert watch.query["resourceVersion"] == "7"
    assert all_of_it.clock.slept == []


async def test_continue_token_that_expired_lists_anew_in_one_page() -> None:
    lists = []

    async def serve(asked: Asked, answer: Answer) -> None:
        if asked.is_watch:
            if "sendInitialEvents" in asked.query:
                await answer.document(REFUSAL, 422)
            else:
                await rest(answer)
            return
        lists.append(dict(asked.query))
        if "continue" in asked.query:
            await answer.document(status(410, "Expired"), 410)
        elif "limit" in asked.query:
            await answer.document(listed([service("a", 5)], 7, "next"))
        else:
            await answer.document(listed([service("b", 6)], 9))

    async with following(serve) as all_of_it:
        await all_of_it.slept(1)
        assert not all_of_it.store.is_synced
        await all_of_it.clock.advance(2)
        # What the first list brought goes again: the second one does not have it.
        await all_of_it.told("+a", "+b", "-a", "synced")
    assert lists == [{"limit": "500"}, {"limit": "500", "continue": "next"}, {}]


async def test_streaming_list_without_its_bookmark_falls_back_to_pages() -> None:
    # A server that does not know the parameters sends what there is and then waits.
    async def serve(asked: Asked, answer: Answer) -> None:
        if "sendInitialEvents" in asked.query:
            await answer.event("ADDED", service("a", 5))
            await rest(answer)
        elif asked.is_watch:
            await rest(answer)
        else:
            await answer.document(listed([service("a", 5)], 7))

    async with following(serve) as all_of_it:
        await all_of_it.told("+a")
        await all_of_it.clock.advance(199)
        assert not all_of_it.clock.slept
        await all_of_it.clock.advance(2)
        await all_of_it.slept(1)
        await all_of_it.clock.advance(2)
        await all_of_it.synced()


async def test_list_that_ends_early_is_no_list() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.event("ADDED", service("a", 5))
        if len(all_of_it.script.watches) > 1:
            await answer.event("BOOKMARK", bookmark(9, ends_list=True))
            await rest(answer)

    async with following(serve) as all_of_it:
        await all_of_it.slept(1)
        assert not all_of_it.store.is_synced
        await all_of_it.clock.advance(2)
        await all_of_it.told("+a", "synced")


async def test_relist_tells_only_what_changed() -> None:
    round_ = 0

    async def serve(asked: Asked, answer: Answer) -> None:
        nonlocal round_
        if "sendInitialEvents" in asked.query:
            round_ += 1
            kept, changed = service("kept", 5), service("changed", 5 + round_)
            for each in (kept, changed, service(f"only{round_}", 6)):
                await answer.event("ADDED", each)
            await answer.event("BOOKMARK", bookmark(10 * round_, ends_list=True))
            if round_ == 1:
                await answer.event("ERROR", status(410, "Expired", "too old"))
                return
        await rest(answer)

    async with following(serve) as all_of_it:
        await all_of_it.synced()
        await all_of_it.slept(1)
        before = ["+kept", "+changed", "+only1", "synced"]
        await all_of_it.clock.advance(2)
        await all_of_it.told(*before, "~changed", "+only2", "-only1")
        assert all_of_it.restarts == ["services"]


async def test_object_of_an_unknown_shape_is_kept_as_it_was() -> None:
    # A newer API may write a field otherwise: the others must go on.
    odd = service("odd", 12, ports="none")

    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.event("ADDED", service("odd", 5))
        await answer.event("BOOKMARK", bookmark(9, ends_list=True))
        await answer.event("MODIFIED", odd)
        await answer.event("ADDED", service("a", 13))
        await rest(answer)

    async with following(serve) as all_of_it:
        await all_of_it.told("+odd", "synced", "+a")
        assert all_of_it.store.get("x/odd") is not None
        await until(lambda: all_of_it.reflector.version == "13")
