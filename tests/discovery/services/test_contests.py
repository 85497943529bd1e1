"""Two Services claim one address: who has it, who inherits it, who is told."""

from pyproxy.kube.objects import Service
from tests.support.services_rig import (
    CLIENT,
    NODE_IP,
    World,
    endpoint,
    keys,
    port,
    service,
    slice_of,
    some,
)

A, B = "ns/a", "ns/b"


def balanced(key: str, number: int, since: str | None = "2026-01-01") -> Service:
    """Return a Service of a load balancer that it shares with others."""
    return service(
        key, f"172.30.0.{number}", ingress=("1.2.3.4",), creation_timestamp=since
    )


def test_the_oldest_service_has_an_address_and_the_next_one_inherits_it() -> None:
    world = World()
    shared = ("1.2.3.4", 80)
    old, young = balanced(A, 1, "2026-01-02"), balanced(B, 2, "2026-01-01")
    world.put(old, slice_of(A, endpoint("10.0.0.1")), slice_of(B, endpoint("10.0.0.2")))
    assert world.flow(CLIENT, *shared)[0] == "10.0.0.1:80"
    delta = world.put(young)
    assert "1.2.3.4:80" in keys(delta)["+vips"]
    assert world.flow(CLIENT, *shared)[0] == "10.0.0.2:80"
    said = ("1.2.3.4:80/tcp is taken by ns/b",)
    assert delta.complaints == {A: said}
    assert world.table.complaints(A) == said
    delta = world.drop(young)
    assert world.flow(CLIENT, *shared)[0] == "10.0.0.1:80"
    assert delta.complaints == {A: ()}
    assert world.table.whole() == world.rebuilt()


def test_of_two_that_are_as_old_the_name_decides() -> None:
    world = World()
    world.put(balanced(B, 2), slice_of(B, endpoint("10.0.0.2")))
    world.put(balanced(A, 1), slice_of(A, endpoint("10.0.0.1")))
    assert world.flow(CLIENT, "1.2.3.4", 80)[0] == "10.0.0.1:80"
    assert world.table.complaints(B) == ("1.2.3.4:80/tcp is taken by ns/a",)


def test_a_service_without_a_date_is_the_youngest() -> None:
    world = World()
    world.put(balanced(A, 1, None), slice_of(A, endpoint("10.0.0.1")))
    world.put(balanced(B, 2), slice_of(B, endpoint("10.0.0.2")))
    assert world.flow(CLIENT, "1.2.3.4", 80)[0] == "10.0.0.2:80"


def test_a_service_that_is_made_anew_loses_what_it_had_by_age() -> None:
    world = World()
    world.put(balanced(A, 1, "2026-01-01"), slice_of(A, endpoint("10.0.0.1")))
    world.put(balanced(B, 2, "2026-01-02"), slice_of(B, endpoint("10.0.0.2")))
    delta = world.put(balanced(A, 1, "2026-01-03"))
    assert world.flow(CLIENT, "1.2.3.4", 80)[0] == "10.0.0.2:80"
    assert delta.complaints == {
        A: ("1.2.3.4:80/tcp is taken by ns/b",),
        B: (),
    }


def test_a_node_port_and_an_external_ip_may_meet() -> None:
    world = World()
    world.put(
        service(
            *(A, "172.30.0.1", port(80, node_port=3001)),
            type="NodePort",
            creation_timestamp="2026-01-02",
        ),
        service(
            *(B, "172.30.0.2", port(3001)),
            external_ips=(NODE_IP,),
            creation_timestamp="2026-01-01",
        ),
        slice_of(A, endpoint("10.0.0.1")),
        slice_of(B, endpoint("10.0.0.2"), ports=(("p80", 80, "TCP"),)),
    )
    assert world.flow(CLIENT, NODE_IP, 3001)[0] == "10.0.0.2:80"
    assert world.table.complaints(A) == (f"{NODE_IP}:3001/tcp is taken by ns/b",)


def test_three_rivals_lose_and_inherit_in_their_order() -> None:
    world = World()
    names = ["ns/c", "ns/a", "ns/b"]
    for number, key in enumerate(names, 1):
        world.put(balanced(key, number), slice_of(key, endpoint(f"10.0.0.{number}")))
    for left in (["ns/a", "ns/b", "ns/c"], ["ns/b", "ns/c"], ["ns/c"]):
        number = names.index(left[0]) + 1
        assert world.flow(CLIENT, "1.2.3.4", 80)[0] == f"10.0.0.{number}:80"
        lost = dict(world.table.whole().complaints)
        said = (f"1.2.3.4:80/tcp is taken by {left[0]}",)
        assert lost == dict.fromkeys(left[1:], said)
        world.drop(balanced(left[0], number))
    assert world.flow(CLIENT, "1.2.3.4", 80) == ("", False)


def test_two_services_may_have_one_cluster_ip_for_a_moment() -> None:
    world = World()
    world.put(service(A, "172.30.0.1", port(80)))
    assert some(world.put(service(B, "172.30.0.1", port(81)))) == {
        "+fronts": ["172.30.0.1:81"]
    }
    assert some(world.drop(service(A, "172.30.0.1"))) == {"-fronts": ["172.30.0.1:80"]}
    assert world.flow(CLIENT, "172.30.0.1", 80) == ("REJECT", False)
