"""What holds whatever happens in whatever order, and at the largest sizes."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.discovery.services import Settings, Table, here_of
from pyproxy.kube.objects import Service
from pyproxy.kube.slices import BriefEndpoint, BriefSlice
from tests.support.services_golden import added
from tests.support.services_rig import (
    CLIENT,
    NODE,
    NODE_IP,
    NODE_IPS,
    PODS,
    World,
    endpoint,
    port,
    service,
    slice_of,
)

Thing = Service | BriefSlice
KEYS = ("ns/a", "ns/b", "other/a")
# Few values of everything: so that they meet.
IPS = ("172.30.0.1", "172.30.0.2", "None", "fd00:172:30::1")
SOME = st.sampled_from
ports = st.builds(
    port,
    SOME((80, 3001)),
    SOME(("p80", "p81")),
    protocol=SOME(("TCP", "UDP", "SCTP")),
    node_port=SOME((0, 3001)),
)
services = st.builds(
    service,
    SOME(KEYS),
    st.lists(SOME(IPS), min_size=1, max_size=2),
    ports,
    type=SOME(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
    internal_traffic_policy=SOME(("Cluster", "Local")),
    external_traffic_policy=SOME(("Cluster", "Local")),
    session_affinity=SOME(("None", "ClientIP")),
    health_check_node_port=SOME((0, 30000)),
    ingress=st.lists(SOME(("1.2.3.4", NODE_IP, "2001:db8::9")), max_size=2),
    external_ips=st.lists(SOME((NODE_IP, "1.2.3.4")), max_size=1).map(tuple),
    load_balancer_source_ranges=SOME(((), ("10.0.0.0/8",), ("::/0",), ("x",))),
    annotations=SOME(({}, {"pyproxy.io/balance": "ring"}, {"pyproxy.io/path": "x"})),
    creation_timestamp=SOME(("2026-01-01", "2026-01-02", None)),
)
endpoints = st.builds(
    endpoint,
    SOME(("10.0.0.1", "10.0.0.2", "fd00::1", "x")),
    SOME((NODE, "other", None)),
    SOME(("ready", "unready", "leaving", "ending", "unsaid")),
    SOME(((), ("a",), ("b",))),
    SOME(((), (NODE,), ("other",))),
)


def sliced(
    key: str, of: str, number: int, family: str, found: list[BriefEndpoint]
) -> BriefSlice:
    """Return a slice that may be named after one Service and be of another."""
    labels = {"kubernetes.io/service-name": of}
    names = (("p80", 80, "TCP"), ("p81", 81, "UDP"), ("p80", 82, "UDP"))
    more = {"number": number, "family": family}
    return slice_of(key, *found, ports=names, labels=labels, **more)  # type: ignore[arg-type]


slices = st.builds(
    sliced,
    SOME(KEYS),
    SOME(("a", "b", "")),
    SOME((1, 2)),
    SOME(("IPv4", "IPv6", "FQDN")),
    st.lists(endpoints, max_size=4),
)
things = st.lists(st.one_of(services, slices), max_size=12)
steps = st.lists(
    st.tuples(st.one_of(services, slices), st.booleans(), st.booleans()), max_size=16
)


def last(found: Sequence[Thing]) -> list[Thing]:
    """Return of each thing the version that came last."""
    return list({(type(each), each.key): each for each in found}.values())


@pytest.mark.slow
@given(steps)
def test_deltas_add_up_to_a_rebuild(steps: list[tuple[Thing, bool, bool]]) -> None:
    world, told = World(), Table()
    for thing, stays, look in steps:
        store = world.services if isinstance(thing, Service) else world.slices
        if stays:
            store.upsert(thing)  # type: ignore[arg-type]
        else:
            store.delete(thing.key)
        if look:
            told = added(told, world.table.take())
    told = added(told, world.table.take())
    assert told == world.table.whole()
    assert told == world.rebuilt()
    assert world.table.take().is_empty


@pytest.mark.slow
@given(things, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(found: list[Thing], dice: random.Random) -> None:
    found = last(found)
    other = list(found)
    dice.shuffle(other)
    first, second = World(), World()
    first.put(*found)
    for each in other:
        second.put(each)
    assert first.table.whole() == second.table.whole()


@pytest.mark.slow
@given(things, st.one_of(services, slices), st.booleans())
def test_what_comes_and_goes_is_nothing(
    found: list[Thing], thing: Thing, look: bool
) -> None:
    world = World()
    others = [e for e in found if (type(e), e.key) != (type(thing), thing.key)]
    world.put(*others)
    before = world.table.whole()
    store = world.services if isinstance(thing, Service) else world.slices
    store.upsert(thing)  # type: ignore[arg-type]
    told = added(before, world.table.take()) if look else before
    delta = world.drop(thing)
    assert delta.is_empty or look
    assert added(told, delta) == world.table.whole() == before


@pytest.mark.slow
@given(things, st.integers(0, 2))
@settings(max_examples=50)
def test_another_node_is_another_table(found: list[Thing], count: int) -> None:
    world, told = World(), Table()
    told = added(told, world.put(*found))
    changed = Settings(NODE, node_ips=NODE_IPS[:count], cluster_cidrs=PODS[:count])
    world.here = here_of(changed, None, NODE_IPS[: count + 1])
    world.table.set_here(world.here)
    assert added(told, world.table.take()) == world.rebuilt()


def test_250_endpoints_in_a_slice() -> None:
    world = World()
    many = [endpoint(f"10.0.0.{n}", NODE if n % 2 else "other") for n in range(250)]
    world.put(
        service("ns/a", "172.30.0.1", internal_traffic_policy="Local"),
        slice_of("ns/a", *many),
    )
    where = world.flow(CLIENT, "172.30.0.1", 80)[0].split(", ")
    assert len(where) == 125
    assert "10.0.0.249:80" in where


def test_1000_slices_of_a_service() -> None:
    world = World()
    world.put(service("ns/a", "172.30.0.1"))
    for number in range(1000):
        # Each address stands in two slices.
        first, second = number // 250, number % 250
        made = [endpoint(f"10.{n}.{first}.{second}") for n in (0, 1)]
        made.append(endpoint(f"10.0.{(first + 1) % 4}.{second}"))
        world.slices.upsert(slice_of("ns/a", *made, number=number))
    (pool,) = world.table.take().pools
    assert len(pool.backends) == 2000
    gone = slice_of("ns/a", number=7)
    (pool,) = world.drop(gone).pools
    assert len(pool.backends) == 1999  # 10.1.0.7 stood nowhere else
    assert world.table.whole() == world.rebuilt()


@pytest.mark.slow
def test_more_endpoints_than_a_pool_holds_are_cut_off_and_told() -> None:
    world = World()
    said = {"pyproxy.io/balance": "ring"}
    world.put(service("ns/a", "172.30.0.1", annotations=said))
    for number in range(264):
        made = [endpoint(f"10.{n}.{number // 250}.{number % 250}") for n in range(250)]
        world.slices.upsert(slice_of("ns/a", *made, number=number))
    delta = world.table.take()
    (pool,) = delta.pools
    assert (len(pool.backends), pool.balance) == (65_536, "two-choices")
    name = pool.name
    assert delta.complaints["ns/a"] == (
        f"{name}: 66000 endpoints, 65536 are used",
        f"{name}: 65536 endpoints are too many for a ring",
    )
