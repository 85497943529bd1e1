"""A name that moves when the server at its old address has ended: no long outage.

kubectl resolves for each dial: 0 to 0.1 s. Issue 11, 21: 30 s here, by the timer alone.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyproxy.discovery.names import Due
from tests.fakes.apiserver import FakeApiserver, server_context
from tests.fakes.cluster import Cluster
from tests.fakes.desk import Desk
from tests.fakes.office import Office
from tests.fakes.recorder import Recorder, pair_for
from tests.support.waiting import scaled, wait_until

NAME = "api.test"
OUTAGE_S = 1.2  # a second between two lookups, and what it takes


class Names:
    """A resolver of one name, for a process of ours."""

    def __init__(self, directory: Path, *addresses: str) -> None:
        self._file = directory / "names"
        self.say(*addresses)

    def say(self, *addresses: str) -> None:
        """Answer so from now on; nothing = there is no such name."""
        text = " ".join([NAME, *addresses]) if addresses else ""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use it."""
        here = Path(__file__).parents[1] / "fakes" / "renamed"
        return {"PYTHONPATH": str(here), "PYPROXY_TEST_NAMES": str(self._file)}


def outage_s(works: Callable[[], bool]) -> float:
    """Ask until it works; return how long it did not."""
    began = time.monotonic()
    wait_until(works, scaled(20.0))
    return time.monotonic() - began


@pytest.mark.live
@pytest.mark.slow
def test_apiserver_that_moves_is_found_at_once(tmp_path: Path) -> None:
    with Office.opened(tmp_path) as office:
        names = Names(tmp_path, "127.0.0.1")
        pair = pair_for(office.issuer)
        first = Recorder(pair)
        with first:
            port = first.address.port
            where = {"server": f"https://{NAME}:{port}", "tls-server-name": "127.0.0.1"}
            office.write(None, **where)
            with (
                Recorder(pair, host="127.0.0.2", port=port) as second,
                office.proxy(Desk, environment=names.environment) as proxy,
            ):
                assert proxy.ask("/a").status == 200
                time.sleep(1.0)  # nothing was looked up within the last second
                names.say("127.0.0.2")
                first.close()
                took_s = outage_s(lambda: proxy.ask("/a").status == 200)
                assert took_s < scaled(OUTAGE_S)
                assert second.seen


@pytest.mark.live
@pytest.mark.slow
def test_apiserver_whose_name_comes_later_is_found(tmp_path: Path) -> None:
    with Office.opened(tmp_path) as office:
        names = Names(tmp_path)
        port = office.upstream.address.port
        where = {"server": f"https://{NAME}:{port}", "tls-server-name": "127.0.0.1"}
        office.write(None, **where)
        with office.proxy(Desk, environment=names.environment) as proxy:
            answer = proxy.ask("/a")
            assert answer.status == 500
            assert b"no such host" in answer.body
            names.say("127.0.0.1")
            took_s = outage_s(lambda: proxy.ask("/a").status == 200)
            assert took_s < scaled(OUTAGE_S)


@pytest.mark.live
@pytest.mark.slow
def test_server_of_a_balancer_that_moves_is_found_at_once(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    names = Names(tmp_path, "127.0.0.1")
    flags = ("--check-server-name=localhost", "--fall=3", "--on-all-down=refuse")
    first = cluster.fake("first")
    with first:
        port = first.address.port
        pair = cluster.issuer.issue("second", ["localhost", "127.0.0.1"])
        with (
            FakeApiserver(server_context(pair), "second", port, "127.0.0.2"),
            cluster.balancer(
                *flags, servers=[f"{NAME}:{port}"], environment=names.environment
            ) as balancer,
        ):
            address = balancer.serving()
            assert cluster.who(address) == "first"
            time.sleep(1.0)
            names.say("127.0.0.2")
            first.close()
            took_s = outage_s(lambda: cluster.who(address) == "second")
            assert took_s < scaled(OUTAGE_S)


async def test_lookups_are_spaced_and_a_failure_hurries_the_next() -> None:
    due = Due(spacing_s=0.1)
    loop = asyncio.get_running_loop()

    async def took(period_s: float) -> float:
        began = loop.time()
        await due.wait(period_s)
        return loop.time() - began

    assert 0.3 <= await took(0.3) < scaled(1.0)
    due.hurry()
    due.hurry()
    assert 0.1 <= await took(30.0) < scaled(1.0)  # not before the spacing
    loop.call_later(0.2, due.hurry)
    assert 0.15 <= await took(30.0) < scaled(1.0)
    assert 0.1 <= await took(0.05 + 0.05) < scaled(1.0)  # what was asked for is done
