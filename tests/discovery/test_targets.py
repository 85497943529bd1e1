"""Where proxy URLs lead. Source of the vectors: the facts, B4, B8, B12 and B15."""

import ipaddress
from typing import Any

import msgspec
import pytest

from pyproxy.discovery.targets import (
    NOT_ALLOWED,
    Location,
    Lookup,
    Outcome,
    Refused,
    Resolver,
    Stores,
)
from pyproxy.http.addresses import AddressRules
from pyproxy.http.proxypath import parse
from pyproxy.kube.machines import Node, Pod
from pyproxy.kube.objects import EndpointSlice, Service

NAMES = {"n-name.example": ("10.9.9.9",), "two.example": ("10.9.9.9", "127.0.0.1")}


def pod(name: str, *ips: str, namespace: str = "n", ports: Any = ()) -> Pod:
    """A Pod; `ports` of each container, as (name, number)."""
    containers = [
        {"name": "c", "ports": [{"name": n, "containerPort": p} for n, p in each]}
        for each in ports
    ]
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": containers},
            "status": {"podIPs": [{"ip": ip} for ip in ips]},
        },
        Pod,
    )


def service(name: str, *ports: tuple[str, int], families: Any = ("IPv4",)) -> Service:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "n"},
            "spec": {
                "ports": [{"name": n, "port": p} for n, p in ports],
                "ipFamilies": list(families),
            },
        },
        Service,
    )


def endpoint(ip: str, name: str = "", *, ready: bool | None = None, **ref: str) -> Any:
    made: dict[str, Any] = {"addresses": [ip], "conditions": {"ready": ready}}
    if name:
        made["targetRef"] = {"kind": "Pod", "namespace": "n", "name": name, **ref}
    return made


def slice_of(
    name: str, ports: Any, *endpoints: Any, family: str = "IPv4", number: int = 0
) -> EndpointSlice:
    return msgspec.convert(
        {
            "metadata": {
                "name": f"{name}-{number}-{family}",
                "namespace": "n",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": family,
            "ports": [{"name": n, "port": p} for n, p in ports],
            "endpoints": list(endpoints),
        },
        EndpointSlice,
    )


def node(name: str, *addresses: tuple[str, str], port: int = 0) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": t, "address": a} for t, a in addresses],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        },
        Node,
    )


def pods() -> list[Pod]:
    return [
        pod("p1", "10.0.0.1", "fd00::1"),
        pod("p2", "10.0.0.2"),
        pod("ports", "10.0.0.3", ports=([], [("web", 9376), ("adm", 81)], [("x", 1)])),
        pod("six", "fd00::6"),
        pod("pending"),
        pod("loop", "127.0.0.1"),
        pod("meta", "169.254.169.254"),
        pod("foreign", "10.0.0.66", namespace="other"),
    ]


def services() -> list[Service]:
    return [
        service("unnamed", ("", 93)),
        service("named", ("p", 93), ("q", 76)),
        service("single", ("only", 80)),
        service("empty", ("", 80)),
        service("sick", ("", 80)),
        service("bare", ("", 80)),
        service("both", ("", 80), families=("IPv6", "IPv4")),
        service("fallback", ("", 80)),
        service("evil", ("", 80)),
        service("ext"),
    ]


def slices() -> list[EndpointSlice]:
    first = endpoint("10.0.0.1", "p1")
    second = endpoint("10.0.0.2", "p2", ready=True)
    sick = endpoint("10.0.0.2", "p2", ready=False)
    return [
        slice_of("unnamed", [("", 80)], first, second),
        slice_of("named", [("p", 80), ("q", 81)], first, sick),
        slice_of("single", [("only", 9376)], second),
        slice_of("sick", [("", 80)], sick),
        slice_of("bare", [("", 80)], endpoint("10.0.0.1")),
        slice_of("both", [("", 80)], first),
        slice_of("both", [("", 80)], endpoint("fd00:0::1", "p1"), family="IPv6"),
        slice_of("fallback", [("", 80)], endpoint("fd00::1", "p1"), family="IPv6"),
        slice_of(
            "evil",
            [("", 80)],
            endpoint("10.0.0.66", "foreign", namespace="other"),
            endpoint("10.0.0.99", "p1"),
            endpoint("10.0.0.1", "gone"),
            endpoint("127.0.0.1", "loop"),
            endpoint("169.254.169.254", "meta"),
        ),
    ]


def nodes() -> list[Node]:
    return [
        node("node0", ("Hostname", "n-name.example"), ("InternalIP", "10.0.0.10")),
        node("status", ("InternalIP", "10.0.0.11"), port=5000),
        node("loopnode", ("InternalIP", "127.0.0.1")),
        node("none"),
        node("byname", ("Hostname", "n-name.example")),
        node("twofaced", ("Hostname", "two.example")),
        node("unknown", ("Hostname", "who.example")),
    ]


@pytest.fixture
def stores() -> Stores:
    """The cluster that the vectors are about."""
    made = Stores()
    for each in pods():
        made.pods.upsert(each)
    for one in services():
        made.services.upsert(one)
    for some in slices():
        made.slices.upsert(some)
    for machine in nodes():
        made.nodes.upsert(machine)
    return made


def resolve(stores: Stores, where: str, rules: AddressRules | None = None) -> Outcome:
    kind, _, name = where.partition(" ")
    space = "" if kind == "nodes" else "namespaces/n/"
    path = parse(f"/api/v1/{space}{kind}/{name}/proxy/x")
    assert path is not None
    return Resolver(stores, rules or AddressRules()).resolve(path, NAMES)


def at(*addresses: str, scheme: str = "http", **more: Any) -> Location:
    pairs = [each.rpartition(":") for each in addresses]
    return Location(scheme, tuple((h, int(p)) for h, _, p in pairs), **more)


BOTH = at("10.0.0.1:80", "10.0.0.2:80")
SECURE = at("10.0.0.1:80", scheme="https")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("services unnamed", BOTH),
        ("services unnamed:", BOTH),
        ("services unnamed:93", BOTH),
        ("services http:unnamed:", BOTH),
        ("services http:unnamed:93", BOTH),
        ("services :unnamed:93", BOTH),
        ("services named:p", at("10.0.0.1:80")),
        ("services named:q", at("10.0.0.1:81")),
        ("services named:93", at("10.0.0.1:80")),
        ("services named:76", at("10.0.0.1:81")),
        ("services http:named:p", at("10.0.0.1:80")),
        ("services https:named:p", SECURE),
        ("services single:only", at("10.0.0.2:9376")),
        ("services single", at("10.0.0.2:9376")),  # beyond: its only port
        ("services both", at("fd00::1:80", others=(("10.0.0.1", 80),))),
        ("services fallback", at("fd00::1:80")),
        ("pods p1", at("10.0.0.1:80")),
        ("pods https:p1:", at("10.0.0.1:443", scheme="https")),
        ("pods p1:8080", at("10.0.0.1:8080")),
        ("pods p1:443", at("10.0.0.1:443")),
        ("pods ports", at("10.0.0.3:9376")),
        ("pods ports:adm", at("10.0.0.3:81")),  # beyond: a peer crashes
        ("pods ports:7", at("10.0.0.3:7")),
        ("pods six", at("fd00::6:80")),
        ("nodes node0", at("10.0.0.10:10250", scheme="https", kubelet="10.0.0.10")),
        (
            "nodes node0:10250",
            at("10.0.0.10:10250", scheme="https", kubelet="10.0.0.10"),
        ),
        ("nodes node0:5000", at("10.0.0.10:5000")),
        ("nodes https:node0:5000", at("10.0.0.10:5000", scheme="https")),
        ("nodes status", at("10.0.0.11:5000", scheme="https", kubelet="10.0.0.11")),
        ("nodes status:10250", at("10.0.0.11:10250")),
        (
            "nodes byname",
            at("10.9.9.9:10250", scheme="https", kubelet="n-name.example"),
        ),
    ],
)
def test_id_leads_to_addresses(stores: Stores, where: str, expected: Location) -> None:
    assert resolve(stores, where) == expected


UNAVAILABLE = "ServiceUnavailable"


@pytest.mark.parametrize(
    ("where", "code", "reason", "message"),
    [
        ("services a:b:c:d", 400, "BadRequest", 'invalid service request "a:b:c:d"'),
        ("pods ftp:p1:1", 400, "BadRequest", 'invalid pod request "ftp:p1:1"'),
        ("nodes HTTPS:n:", 400, "BadRequest", 'invalid node request "HTTPS:n:"'),
        ("services gone", 404, "NotFound", 'services "gone" not found'),
        ("services https:named", 404, "NotFound", 'services "https" not found'),
        ("pods gone:80", 404, "NotFound", 'pods "gone" not found'),
        ("nodes gone", 404, "NotFound", 'nodes "gone" not found'),
        (
            *("services unnamed:80", 503, UNAVAILABLE),
            'no service port 80 found for service "unnamed"',
        ),
        (
            *("services ext:80", 503, UNAVAILABLE),
            'no service port 80 found for service "ext"',
        ),
        (
            *("services named:bad", 503, UNAVAILABLE),
            'no endpoints available for service "named:bad"',
        ),
        (
            *("services named", 503, UNAVAILABLE),
            'no endpoints available for service "named"',
        ),
        (
            *("services empty:80", 503, UNAVAILABLE),
            'no endpoints available for service "empty"',
        ),
        (
            *("services sick:80", 503, UNAVAILABLE),
            'no endpoints available for service "sick"',
        ),
        # Endpoints that are no Pods of the namespace, CVE-2021-25740.
        (
            *("services bare:80", 503, UNAVAILABLE),
            'no endpoints available for service "bare:80"',
        ),
        (
            *("services evil:80", 503, UNAVAILABLE),
            'no endpoints available for service "evil:80"',
        ),
        ("pods pending", 400, "BadRequest", "address not allowed"),
        ("pods pending:80", 400, "BadRequest", "address not allowed"),
        ("pods loop", 400, "BadRequest", "address not allowed"),
        ("pods meta:80", 400, "BadRequest", "address not allowed"),
        ("pods p1:99999", 400, "BadRequest", "address not allowed"),
        ("pods p1:0", 400, "BadRequest", "address not allowed"),
        (
            *("pods ports:nope", 400, "BadRequest"),
            'no port "nope" found for pod "ports"',
        ),
        # CVE-2022-3294: whatever the port.
        ("nodes loopnode", 400, "BadRequest", "address not allowed"),
        ("nodes loopnode:10250", 400, "BadRequest", "address not allowed"),
        ("nodes loopnode:5000", 400, "BadRequest", "address not allowed"),
        # One answer of two is an address of this machine.
        ("nodes twofaced", 400, "BadRequest", "address not allowed"),
    ],
)
def test_id_that_leads_nowhere_is_refused_in_a_peers_words(
    stores: Stores, where: str, code: int, reason: str, message: str
) -> None:
    found = resolve(stores, where)
    assert isinstance(found, Refused)
    assert (found.code, found.reason, found.message) == (code, reason, message)


def test_missing_object_is_named_without_scheme_and_port(stores: Stores) -> None:
    found = resolve(stores, "pods https:gone:80")
    assert isinstance(found, Refused)
    assert found.name == "gone"


def test_node_with_a_name_that_is_not_known_yet_is_to_be_looked_up(
    stores: Stores,
) -> None:
    assert resolve(stores, "nodes unknown") == Lookup("who.example")


def test_node_without_an_address_is_an_internal_error(stores: Stores) -> None:
    found = resolve(stores, "nodes none")
    assert isinstance(found, Refused)
    assert found.code == 500


def test_rules_hold_for_endpoints_of_services_too(stores: Stores) -> None:
    denied = AddressRules(deny=(ipaddress.IPv4Network("10.0.0.1/32"),))
    assert resolve(stores, "services unnamed", denied) == at("10.0.0.2:80")
    assert resolve(stores, "pods p1", denied) == NOT_ALLOWED


def test_slices_are_found_by_the_pods_in_them(stores: Stores) -> None:
    found = stores.slices.by("pod", "n/p2")
    assert {each.service for each in found} == {
        "n/unnamed",
        "n/named",
        "n/single",
        "n/sick",
    }
