"""What the table says comes into force: in order, all or none of each Service."""

from collections.abc import Iterator

import pytest

from pyproxy.capture import Fronts
from pyproxy.dataplane import Dataplane
from pyproxy.errors import StartError
from pyproxy.model import Backend, Front, Pool, Vip, VipKey
from pyproxy.modes.kube_proxy import KubeProxy
from pyproxy.modes.kube_proxy.programmer import Programmer
from tests.fakes.node_agent import Delta
from tests.support.servers import EchoServer, free_port

pytestmark = pytest.mark.live


class Table:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.all_marked = 0
        self.no_local_endpoints: dict[str, int] = {}

    def say(self, **fields: object) -> None:
        """Let this be the next delta."""
        self.deltas.append(Delta(**fields))  # type: ignore[arg-type]

    def take(self) -> Delta:
        """Return it."""
        return self.deltas.pop(0) if self.deltas else Delta()

    def mark_all(self) -> None:
        """Count."""
        self.all_marked += 1

    def mark(self, key: str, changed_at: str = "") -> None:
        """Not of these tests."""

    def set_here(self, here: object) -> None:
        """Likewise."""

    def set_blocks(self, cidrs: object) -> None:
        """Likewise."""

    def explain(self, key: str) -> None:
        """Likewise."""


class Capture:
    """Remembers in which order it was asked, and which vips were in the core then."""

    name = "bind"

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self.fails = False
        self.asked: list[tuple[list[str], list[str], int]] = []
        self.hosts = {"127.0.0.1"}

    def takes(self, vip: Vip) -> bool:
        """Whether it is one of these."""
        return vip.host in self.hosts

    def update(self, change: Fronts) -> None:
        """Remember."""
        if self.fails:
            raise StartError("no nft")
        put = [f"{front.port} {front.far}" for front in change.put]
        gone = [str(port) for _, _, port in change.remove]
        self.asked.append((put, gone, len(self._dataplane.vips)))

    def open(self, here: object) -> None:
        """Not of these tests."""

    def verify(self) -> list[str]:
        """Likewise."""
        return []

    def obstacles(self) -> list[str]:
        """Likewise."""
        return []

    def cleanup(self) -> list[str]:
        """Likewise."""
        return []

    def close(self, *, leave: bool) -> None:
        """Likewise."""


class Rig:
    """A programmer between a table that is told what to say, and a real core."""

    def __init__(self, dataplane: Dataplane) -> None:
        self.dataplane = dataplane
        self.table, self.capture = Table(), Capture(dataplane)
        self.failed: list[tuple[str, str]] = []
        self.programmer = Programmer(
            self.table,
            self.capture,
            lambda: dataplane,
            lambda key, why: self.failed.append((key, why)),
        )

    def ports(self) -> set[int]:
        """Of vips in the core."""
        return {vip.port for vip in self.dataplane.vips}


@pytest.fixture
def rig() -> Iterator[Rig]:
    """It is closed in the end."""
    dataplane = Dataplane.open(1)
    yield Rig(dataplane)
    dataplane.close()


def pool(key: str, port: int = 9) -> Pool:
    """Of a Service."""
    return Pool(f"{key}:web", (Backend("127.0.0.1", port),))


def vip(key: str, port: int, host: str = "127.0.0.1") -> Vip:
    """Of a Service."""
    return Vip(host, port, pool(key))


def front(port: int, access: str = "serve") -> Front:
    """Of an address."""
    return Front("tcp", "127.0.0.1", port, access, access)  # type: ignore[arg-type]


def key_of(port: int) -> VipKey:
    """Of a vip."""
    return ("tcp", "127.0.0.1", port)


def bad(key: str) -> Pool:
    """A pool that the core refuses: two of its backends have one address."""
    twice = (Backend("127.0.0.1", 9), Backend("127.0.0.1", 9))
    return Pool(f"{key}:web", twice)


def test_clients_are_let_in_after_and_turned_away_before_the_core_changes(
    rig: Rig,
) -> None:
    one, other = free_port(), free_port()
    rig.table.say(
        vips=[vip("a/b", one)],
        pools=[pool("a/b")],
        fronts=[front(one), front(other, "reject")],
    )
    assert rig.programmer.sync()
    assert rig.capture.asked == [
        ([f"{other} reject"], [], 0),
        ([f"{one} serve"], [], 1),
    ]
    rig.capture.asked.clear()
    rig.table.say(
        remove_vips=[key_of(one)],
        remove_pools=["a/b:web"],
        fronts=[front(one, "drop")],
        remove_fronts=[key_of(other)],
    )
    assert rig.programmer.sync()
    assert rig.capture.asked == [([f"{one} drop"], [str(other)], 1)]
    assert rig.ports() == set()


def test_nothing_to_do_asks_nobody(rig: Rig) -> None:
    generation = rig.dataplane.totals().generation
    assert rig.programmer.sync()
    assert rig.capture.asked == []
    assert rig.dataplane.totals().generation == generation


def test_one_bad_service_stops_no_other(rig: Rig) -> None:
    names = [f"n/s{number}" for number in range(9)]
    ports = {name: free_port() for name in names}
    pools = [bad(n) if n in ("n/s3", "n/s7") else pool(n) for n in names]
    rig.table.say(
        vips=[vip(n, p) for n, p in ports.items()],
        pools=pools,
        fronts=[front(p) for p in ports.values()],
    )
    assert rig.programmer.sync()
    served = {p for n, p in ports.items() if n not in ("n/s3", "n/s7")}
    assert rig.ports() == served
    assert {key for key, _ in rig.failed} == {"n/s3", "n/s7"}
    assert set(rig.programmer.failed) == {"n/s3", "n/s7"}
    opened = {text for put, _, _ in rig.capture.asked for text in put}
    assert opened == {f"{port} serve" for port in served}


def test_service_that_was_refused_is_served_when_it_is_right(rig: Rig) -> None:
    port = free_port()
    rig.table.say(vips=[vip("a/b", port)], pools=[bad("a/b")])
    assert rig.programmer.sync()
    assert rig.programmer.sync(again=True)
    assert len(rig.failed) == 1  # said once, tried twice
    # The next delta names what changed, and no more: the vip is remembered.
    rig.table.say(pools=[pool("a/b")])
    assert rig.programmer.sync()
    assert rig.ports() == {port}
    assert rig.programmer.failed == {}


def test_service_that_was_refused_is_not_forgotten_over_news_of_others(
    rig: Rig,
) -> None:
    port, other = free_port(), free_port()
    rig.table.say(vips=[vip("a/b", port)], pools=[bad("a/b")])
    rig.programmer.sync()
    rig.table.say(vips=[vip("c/d", other)], pools=[pool("c/d")])
    rig.programmer.sync()
    assert set(rig.programmer.failed) == {"a/b"}
    assert rig.ports() == {other}
    rig.table.say(pools=[pool("a/b")])
    rig.programmer.sync()
    assert rig.ports() == {port, other}


def test_refused_change_leaves_a_service_as_it_was(rig: Rig) -> None:
    port = free_port()
    with EchoServer() as server:
        good = Pool("a/b:web", (Backend(*server.address),))
        rig.table.say(vips=[Vip("127.0.0.1", port, good)], pools=[good])
        rig.programmer.sync()
        rig.table.say(pools=[bad("a/b")])
        rig.programmer.sync()
        assert rig.ports() == {port}
        (kept,) = rig.dataplane.vips
        assert kept.pool.backends == good.backends


def test_fault_of_nearly_all_services_is_no_fault_of_theirs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Symptom: 10,000 Services refused one by one held up everything for two minutes.
    monkeypatch.setattr("pyproxy.modes.kube_proxy.programmer.MOST_REFUSED", 3)
    names = [f"n/s{number}" for number in range(20)]
    rig.table.say(
        vips=[vip(name, free_port()) for name in names],
        pools=[bad(name) for name in names],
    )
    assert not rig.programmer.sync()
    assert rig.programmer.trouble
    assert len(rig.failed) == 3
    rig.table.say(pools=[pool(name) for name in names])  # and all is well again
    assert rig.programmer.sync()
    assert rig.programmer.failed == {}
    assert rig.programmer.trouble == ""


def test_port_that_is_taken_is_tried_again(rig: Rig) -> None:
    with EchoServer() as taken:
        port = taken.address[1]
        other = free_port()
        rig.table.say(
            vips=[vip("a/b", port), vip("c/d", other)],
            pools=[pool("a/b"), pool("c/d")],
        )
        rig.programmer.sync()
        assert rig.ports() == {other}
    assert rig.programmer.sync(again=True)
    assert rig.ports() == {port, other}


def test_failing_capture_keeps_everything_for_later(rig: Rig) -> None:
    one, other = free_port(), free_port()
    rig.capture.fails = True
    rig.table.say(vips=[vip("a/b", one)], pools=[pool("a/b")], fronts=[front(one)])
    assert not rig.programmer.sync()
    assert rig.programmer.trouble == "no nft"
    assert rig.failed == []  # no fault of a Service
    rig.table.say(vips=[vip("c/d", other)], pools=[pool("c/d")], fronts=[front(other)])
    assert not rig.programmer.sync()
    rig.capture.fails = False
    assert rig.programmer.sync()
    assert rig.programmer.trouble == ""
    put = {text for texts, _, _ in rig.capture.asked for text in texts}
    assert put == {f"{one} serve", f"{other} serve"}
    assert rig.ports() == {one, other}


def test_vip_whose_clients_cannot_come_is_left_out(rig: Rig) -> None:
    port = free_port()
    far = vip("a/b", port, "192.0.2.1")
    rig.table.say(vips=[far, vip("c/d", port)], pools=[pool("a/b"), pool("c/d")])
    assert rig.programmer.sync()
    assert rig.failed == []
    assert {each.host for each in rig.dataplane.vips} == {"127.0.0.1"}
    rig.table.say(pools=[pool("a/b", 10)])  # its endpoints go on changing
    assert rig.programmer.sync()
    rig.table.say(remove_vips=[far.key], remove_pools=["a/b:web"])
    assert rig.programmer.sync()
    assert rig.failed == []


def test_address_that_changes_hands_in_one_delta_is_served_on(rig: Rig) -> None:
    port = free_port()
    rig.table.say(vips=[vip("a/b", port)], pools=[pool("a/b")])
    rig.programmer.sync()
    rig.table.say(
        vips=[vip("c/d", port)], pools=[pool("c/d")], remove_pools=["a/b:web"]
    )
    assert rig.programmer.sync()
    assert rig.programmer.owner(key_of(port)) == "c/d"
    assert list(rig.programmer.of("c/d")) == [key_of(port)]


def test_another_table_takes_away_what_it_does_not_name(rig: Rig) -> None:
    one, other = free_port(), free_port()
    rig.table.say(
        vips=[vip("a/b", one), vip("c/d", other)],
        pools=[pool("a/b"), pool("c/d")],
        fronts=[front(one), front(other)],
    )
    rig.programmer.sync()
    rig.capture.asked.clear()
    table = Table()
    rig.programmer.restart(table, KubeProxy())
    assert table.all_marked == 1
    table.say(vips=[vip("c/d", other)], pools=[pool("c/d")], fronts=[front(other)])
    assert rig.programmer.sync()
    assert rig.ports() == {other}
    assert rig.capture.asked == [([], [str(one)], 2), ([f"{other} serve"], [], 1)]


def test_core_knows_all_before_capture_is_asked_and_is_not_told_twice(
    rig: Rig,
) -> None:
    """A successor's capture takes clients of its predecessor as soon as it opens."""
    one, other = free_port(), free_port()
    rig.table.say(
        vips=[vip("a/a", one)],
        pools=[pool("a/a")],
        fronts=[front(one), front(other, "reject")],
    )
    rig.programmer.prepare()
    assert rig.ports() == {one}
    assert rig.capture.asked == []
    assert rig.programmer.owner(key_of(one)) == "a/a"
    generation = rig.dataplane.stats().generation
    assert rig.programmer.sync()
    assert {put for puts, _, _ in rig.capture.asked for put in puts} == {
        f"{one} serve",
        f"{other} reject",
    }
    assert rig.dataplane.stats().generation == generation


def test_what_the_core_refuses_beforehand_is_found_by_the_first_sync(rig: Rig) -> None:
    one = free_port()
    rig.table.say(
        vips=[vip("a/a", one), vip("b/b", free_port())],
        pools=[pool("a/a"), bad("b/b")],
        fronts=[front(one)],
    )
    rig.programmer.prepare()
    assert rig.ports() == set()
    assert rig.programmer.sync()
    assert rig.ports() == {one}
    assert [key for key, _ in rig.failed] == ["b/b"]
