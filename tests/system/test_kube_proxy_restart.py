"""One agent follows another on a node under load: no client is refused."""

import contextlib
import threading
from pathlib import Path

import pytest

from tests.support import netns
from tests.support.kube_lab import (
    FAMILIES,
    TOLD_S,
    Client,
    Endpoint,
    kube_lab,
    start,
)
from tests.support.lab import Place
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.timeout(180),
]


class Caller:
    """Asks again and again, over a connection of its own each time."""

    def __init__(self, place: Place, host: str) -> None:
        self.said: list[str] = []
        self._place, self._host = place, host
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.said.append(self._place.http(self._host, 80))

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


@pytest.mark.parametrize("family", FAMILIES)
def test_successor_takes_over_connections_and_datagrams(
    tmp_path: Path, family: str
) -> None:
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    flags = (f"--handover-socket={tmp_path / 'socket'}", "--drain-timeout=1s")
    with kube_lab(tmp_path, *flags) as rig, contextlib.ExitStack() as stack:
        ip, name = (
            rig.service("web", Endpoint(rig.there, "n2")).ip(family),
            rig.there.name,
        )
        client = stack.enter_context(contextlib.closing(Client(rig.near, ip, 80)))
        wait_until(lambda: client.ask() == name, TOLD_S)
        wait_until(lambda: rig.near.http(ip, 80) == name, TOLD_S)
        with Caller(rig.near, ip) as caller:
            with rig.node.entered():
                new = stack.enter_context(start(rig.cluster, *flags))
                new.serving()
            rig.agent.wait_for_event("a successor serves, ending")
            assert rig.agent.wait() == 0
            before = len(caller.said)
            wait_until(lambda: len(caller.said) > before + 20, TOLD_S)
            # From the port that it had: its flow began with the other process.
            assert [client.ask() for _ in range(5)] == [name] * 5
        assert set(caller.said) == {name}
