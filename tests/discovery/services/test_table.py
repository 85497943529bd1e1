"""What changes when something changes: deltas, marks, the node."""

from typing import Any

import msgspec
import pytest

from pyproxy.discovery.services import Delta, Settings, Table, here_of
from pyproxy.discovery.services.build import Made, build
from pyproxy.model import Pool
from tests.support.services_golden import added
from tests.support.services_rig import (
    CLIENT,
    NODE,
    NODE_IP,
    NODE_IP6,
    NODE_IPS,
    PODS,
    World,
    endpoint,
    port,
    service,
    slice_of,
    some,
)

A, B = "ns/a", "ns/b"


def test_a_service_comes_gets_endpoints_and_goes() -> None:
    world = World()
    made, first = service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1"))
    pool = "ns/a:p80/tcp/IPv4#cluster"
    where = ["172.30.0.1:80"]
    assert some(world.put(made)) == {"+fronts": where, "+ips": ["172.30.0.1"]}
    assert some(world.put(first)) == {
        "+pools": [pool],
        "+vips": where,
        "+fronts": where,
    }
    more = slice_of(A, endpoint("10.0.0.2"), number=2)
    assert some(world.put(more)) == {"+pools": [pool]}
    assert world.backends(pool) == ["10.0.0.1", "10.0.0.2"]
    assert some(world.drop(more)) == {"+pools": [pool]}
    gone = some(world.drop(made))
    assert gone == {
        "-pools": [pool],
        "-vips": where,
        "-fronts": where,
        "-ips": ["172.30.0.1"],
    }
    assert world.drop(first).is_empty
    assert world.table.whole() == Table()


def test_what_comes_and_goes_between_two_looks_is_nothing() -> None:
    world = World()
    made, first = service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1"))
    world.services.upsert(made)
    world.slices.upsert(first)
    world.services.delete(A)
    world.slices.delete(first.key)
    assert world.table.is_marked
    assert world.table.take().is_empty
    assert not world.table.is_marked
    assert world.table.whole() == Table()


def test_a_pool_that_only_grows_keeps_its_backends_as_they_are() -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.2")))
    name = "ns/a:p80/tcp/IPv4#cluster"
    before = world.table.whole().pools[name].backends
    world.put(slice_of(A, endpoint("10.0.0.1"), number=2))
    after = world.table.whole().pools[name].backends
    assert [each.host for each in after] == ["10.0.0.1", "10.0.0.2"]
    assert after[1] is before[0]


def test_vips_of_a_delta_name_pools_and_hold_none() -> None:
    world = World()
    delta = world.put(
        service(
            *(A, "172.30.0.1", port(80, node_port=3001)),
            type="NodePort",
            external_traffic_policy="Local",
        ),
        slice_of(A, endpoint("10.0.0.1", NODE)),
    )
    named = {each.name for each in delta.pools}
    for vip in delta.vips:
        for pool in (vip.pool, vip.near_pool or vip.pool):
            assert pool.name in named
            assert pool == Pool(pool.name, ())


def test_an_endpoint_that_moves_between_slices_changes_nothing() -> None:
    world = World()
    old, new = slice_of(A, endpoint("10.0.0.1")), slice_of(A, number=2)
    world.put(service(A, "172.30.0.1"), old, new)
    world.slices.upsert(slice_of(A, endpoint("10.0.0.1"), number=2))
    world.slices.upsert(slice_of(A))
    assert world.table.take().is_empty


def test_a_slice_that_moves_between_services_is_taken_and_given() -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), service(B, "172.30.0.2"))
    first = slice_of(A, endpoint("10.0.0.1"))
    world.put(first)
    moved = slice_of(
        A, endpoint("10.0.0.1"), labels={"kubernetes.io/service-name": "b"}
    )
    assert moved.key == first.key
    assert some(world.put(moved)) == {
        "+pools": ["ns/b:p80/tcp/IPv4#cluster"],
        "-pools": ["ns/a:p80/tcp/IPv4#cluster"],
        "+vips": ["172.30.0.2:80"],
        "-vips": ["172.30.0.1:80"],
        "+fronts": ["172.30.0.1:80", "172.30.0.2:80"],
    }


def test_a_slice_of_no_service_is_of_no_interest() -> None:
    world = World()
    world.put(service(A, "172.30.0.1"))
    stray = slice_of(A, endpoint("10.0.0.1"), labels={"kubernetes.io/service-name": ""})
    assert world.put(stray).is_empty


def test_annotations_and_versions_of_slices_do_not_count() -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1")))
    world.slices.upsert(slice_of(A, endpoint("10.0.0.1")))
    assert not world.table.is_marked


def test_the_moment_of_a_change_is_told_once() -> None:
    world = World()
    world.put(service(A, "172.30.0.1"))

    def at(moment: str, *addresses: str) -> Delta:
        made = slice_of(A, *map(endpoint, addresses))
        said = {"endpoints.kubernetes.io/last-change-trigger-time": moment}
        meta = msgspec.structs.replace(made.metadata, annotations=said)
        return world.put(msgspec.structs.replace(made, metadata=meta))

    assert at("2026-01-01T00:00:02Z", "10.0.0.1").changed_at == {
        A: "2026-01-01T00:00:02Z"
    }
    # The endpoint controller writes no newer moment for what has none.
    assert at("2026-01-01T00:00:02Z", "10.0.0.2").changed_at == {}
    world.table.mark(A, "2026-01-01T00:00:09Z")
    world.table.mark(A)
    assert at("2026-01-01T00:00:07Z", "10.0.0.1").changed_at == {
        A: "2026-01-01T00:00:07Z"
    }


def test_a_node_that_changes_changes_what_it_is_part_of() -> None:
    settings = Settings(NODE, node_ips=(NODE_IP, NODE_IP6), cluster_cidrs=PODS)
    world = World(settings)
    zones = [endpoint("10.0.0.1", zones=["a"]), endpoint("10.0.0.2", zones=["b"])]
    world.put(
        service(A, "172.30.0.1"),
        service(B, "172.30.0.2", port(80, node_port=3001), type="NodePort"),
        slice_of(A, *zones),
        slice_of(B, endpoint("10.0.0.1")),
    )
    told = world.table.whole()
    for changed in (
        Settings(NODE, node_ips=("192.168.1.2", NODE_IP6), cluster_cidrs=PODS),
        Settings(NODE, node_ips=("192.168.1.2",)),
        settings,
    ):
        world.here = here_of(changed, None, NODE_IPS)
        world.table.set_here(world.here)
        told = added(told, world.table.take())
        assert told == world.rebuilt()
    world.table.set_here(here_of(settings, None, NODE_IPS))
    assert not world.table.is_marked


def test_a_bug_with_one_service_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1")))

    def build_some(key: str, *args: Any) -> Made:
        if key == A:
            raise ZeroDivisionError("that")
        return build(key, *args)

    monkeypatch.setattr("pyproxy.discovery.services.table.build", build_some)
    delta = world.put(service(A, "172.30.0.9"), service(B, "172.30.0.2"))
    assert some(delta) == {"+fronts": ["172.30.0.2:80"], "+ips": ["172.30.0.2"]}
    assert world.flow(CLIENT, "172.30.0.1", 80)[0] == "10.0.0.1:80"
    (record,) = caplog.records
    assert (record.message, record.__dict__["key"]) == (
        "service not built, keeping the last",
        A,
    )
    monkeypatch.undo()
    delta = world.put(service(A, "172.30.0.3"))
    assert some(delta)["-ips"] == ["172.30.0.1"]
