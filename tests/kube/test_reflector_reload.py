"""A reflector whose kubeconfig changes under it."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyproxy.kube.config import ClientFlags, Current
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.resource import SERVICES
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection
from pyproxy.kube.wire import POLL_S, Wire
from tests.fakes.kubectl import one_context, write
from tests.support.kube_following import Notes
from tests.support.kube_server import (
    NOWHERE,
    Answer,
    Asked,
    Handler,
    Script,
    bookmark,
    service,
    until,
)
from tests.support.kube_time import FakeTime
from tests.support.waiting import PAUSE_S

if TYPE_CHECKING:
    from pyproxy.kube.objects import Service


def serving(name: str) -> Handler:
    """Serve one Service and leave the watch open."""

    async def serve(asked: Asked, answer: Answer) -> None:
        answer.begin()
        if "sendInitialEvents" in asked.query:
            await answer.event("ADDED", service(name, 5))
            await answer.event("BOOKMARK", bookmark(9, ends_list=True))
        await asyncio.Event().wait()

    return serve


async def test_watch_goes_to_the_new_server_at_once(tmp_path: Path) -> None:
    kubeconfig, clock, notes = tmp_path / "kubeconfig", FakeTime(), Notes()
    store: Store[Service] = Store()
    store.add_handler(notes)
    async with Script(serving("old")) as old, Script(serving("new")) as new:
        write(kubeconfig, one_context({"server": old.url}, {}))
        wire = Wire(
            Current(ClientFlags(kubeconfig=str(kubeconfig)), NOWHERE), clock=clock
        )
        reflector = Reflector(wire, Selection(SERVICES), store)
        tasks = [
            asyncio.create_task(reflector.run()),
            asyncio.create_task(wire.follow_files()),
        ]
        await until(lambda: store.is_synced)
        write(kubeconfig, one_context({"server": new.url}, {}))
        for _ in range(20):
            await clock.advance(POLL_S)
            await asyncio.sleep(PAUSE_S)
            if "-old" in notes.lines:
                break
        assert notes.lines == ["+old", "synced", "+new", "-old"]
        assert set(store.objects) == {"x/new"}
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await wire.close()
