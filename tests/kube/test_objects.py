"""Objects of a real cluster as structs: nothing that we read is read wrongly."""

import json
from typing import Any

import msgspec
import pytest

from pyproxy.kube.machines import Pod
from pyproxy.kube.objects import EndpointSlice, ObjectMeta, Status
from pyproxy.kube.records import (
    Event,
    EventSource,
    Lease,
    LeaseSpec,
    SubjectAccessReview,
    TokenReview,
    TokenReviewSpec,
)
from pyproxy.kube.resource import (
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    SERVICES,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
)
from tests.support import kube_golden as golden

# What a kind has, in the golden files, and we do not read; the rest we do.
UNREAD: dict[str, set[str]] = {
    "services": {"trafficDistribution", "externalName"},
    "endpointslices": {"deprecatedTopology"},
    "servicecidrs": {"status"},
}
SOMETHING_ELSE = {"kind", "apiVersion", "ownerReferences", "managedFields"}


def differences(raw: Any, ours: Any, path: str = "") -> list[str]:
    """Return where our JSON says something else than the original, or more."""
    if isinstance(ours, dict):
        return [
            problem
            for name, value in ours.items()
            for problem in differences(
                raw.get(name) if isinstance(raw, dict) else None,
                value,
                f"{path}.{name}",
            )
        ]
    if isinstance(ours, list) and isinstance(raw, list) and len(ours) == len(raw):
        pairs = enumerate(zip(raw, ours, strict=True))
        return [p for n, (a, b) in pairs for p in differences(a, b, f"{path}[{n}]")]
    return [] if raw == ours else [f"{path}: {raw!r} is not {ours!r}"]


@pytest.mark.parametrize("kind", golden.KINDS)
def test_golden_objects_are_read_as_they_are(kind: str) -> None:
    count = 0
    for raw in golden.objects(kind):
        made = golden.KINDS[kind].decoder.decode(json.dumps(raw))
        assert differences(raw, json.loads(msgspec.json.encode(made))) == []
        count += 1
    assert count


@pytest.mark.parametrize("kind", UNREAD)
def test_golden_fields_are_all_read_but_those_named(kind: str) -> None:
    for raw in golden.objects(kind):
        made = golden.KINDS[kind].decoder.decode(json.dumps(raw))
        ours = json.loads(msgspec.json.encode(made))
        lost = {path.rpartition(".")[2] for path in missing(raw, ours)}
        assert lost <= UNREAD[kind] | SOMETHING_ELSE, raw


def missing(raw: Any, ours: Any, path: str = "") -> list[str]:
    """Return what the original has and we have not, defaults aside."""
    if isinstance(raw, dict):
        found = []
        for name, value in raw.items():
            there = ours.get(name) if isinstance(ours, dict) else None
            if there is None and value not in DEFAULTS:
                found.append(f"{path}.{name}")
            elif there is not None:
                found += missing(value, there, f"{path}.{name}")
        return found
    if isinstance(raw, list) and isinstance(ours, list):
        return [p for a, b in zip(raw, ours, strict=False) for p in missing(a, b, path)]
    return []


DEFAULTS: tuple[Any, ...] = (
    *(None, "", 0, False, [], {}, "TCP", "ClusterIP", "None"),
    {"loadBalancer": {}},
)


def test_nil_slices_of_go_are_empty() -> None:
    # services-and-slices.jsonl has 45 of them: a slice without endpoints, for one.
    made = ENDPOINT_SLICES.decoder.decode(b'{"endpoints":null,"ports":null}')
    assert made == EndpointSlice()
    assert PODS.decoder.decode(b'{"spec":{"containers":null}}') == Pod()


def test_conditions_that_are_not_said_have_their_meaning() -> None:
    # discovery.k8s.io/v1: ready and serving nil = true, terminating nil = false.
    raw = b'{"endpoints":[{"addresses":["10.0.0.1"]},{"addresses":[],"conditions":'
    raw += b'{"ready":false,"serving":false,"terminating":true}}]}'
    unsaid, said = ENDPOINT_SLICES.decoder.decode(raw).endpoints
    assert (unsaid.is_ready, unsaid.is_serving, unsaid.is_terminating) == (
        True,
        True,
        False,
    )
    assert (said.is_ready, said.is_serving, said.is_terminating) == (False, False, True)


def test_slice_knows_its_service() -> None:
    labels = {"kubernetes.io/service-name": "s"}
    made = EndpointSlice(metadata=ObjectMeta(name="s-1", namespace="x", labels=labels))
    assert made.service == "x/s"
    assert EndpointSlice(metadata=ObjectMeta(name="s-1", namespace="x")).service == ""


def test_heartbeats_of_nodes_are_no_change() -> None:
    raw = next(golden.objects("nodes"))
    later = json.loads(json.dumps(raw))
    later["metadata"]["resourceVersion"] = "999999"
    for condition in later["status"]["conditions"]:
        condition["lastHeartbeatTime"] = "2027-01-01T00:00:00Z"
    decode = NODES.decoder.decode
    assert decode(json.dumps(raw)) == decode(json.dumps(later))
    later["spec"]["unschedulable"] = True
    assert decode(json.dumps(raw)) != decode(json.dumps(later))


def test_objects_are_immutable_and_not_watched_by_the_collector() -> None:
    import gc

    made = SERVICES.decoder.decode(json.dumps(next(golden.objects("services"))))
    with pytest.raises(AttributeError):
        made.metadata = ObjectMeta()  # type: ignore[misc]
    assert not gc.is_tracked(made)
    assert not gc.is_tracked(made.spec)


def test_encode_says_what_it_is() -> None:
    spec = LeaseSpec(holder_identity="me", lease_duration_seconds=15)
    made = Lease(metadata=ObjectMeta(name="l", namespace="x"), spec=spec)
    assert json.loads(LEASES.encode(made)) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l", "namespace": "x"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    }
    event = Event(source=EventSource(component="c"), first_timestamp="t")
    said = json.loads(EVENTS.encode(event))
    assert said["source"] == {"component": "c"}
    assert said["firstTimestamp"] == "t"
    assert json.loads(PODS.encode(Pod())) == {"apiVersion": "v1", "kind": "Pod"}


def test_reviews_of_the_golden_files_are_read() -> None:
    tokens, accesses = [], []
    for each in golden.records("discovery-and-auth"):
        body = each["response"]["body"]
        if isinstance(body, dict) and body.get("kind") == "TokenReview":
            tokens.append(TOKEN_REVIEWS.decoder.decode(json.dumps(body)))
        if isinstance(body, dict) and body.get("kind") == "SubjectAccessReview":
            accesses.append(SUBJECT_ACCESS_REVIEWS.decoder.decode(json.dumps(body)))
    assert {each.status.user.username for each in tokens} >= {"alice", ""}
    assert {each.status.error for each in tokens} >= {"", "invalid bearer token"}
    assert {each.status.allowed for each in accesses} == {True, False}
    assert all(isinstance(each, TokenReview) for each in tokens)
    assert all(isinstance(each, SubjectAccessReview) for each in accesses)


def test_repr_of_a_token_review_holds_no_token() -> None:
    made = TokenReview(spec=TokenReviewSpec(token="hush"))
    assert "hush" not in repr(made)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("x/a", "/api/v1/namespaces/x/services/a"),
        ("x/a b", "/api/v1/namespaces/x/services/a%20b"),
    ],
)
def test_path_of_a_key(key: str, path: str) -> None:
    assert SERVICES.path_of(key) == path


def test_paths_of_groups_and_cluster_objects() -> None:
    root = "/apis/discovery.k8s.io/v1"
    assert ENDPOINT_SLICES.path() == f"{root}/endpointslices"
    assert ENDPOINT_SLICES.path("x") == f"{root}/namespaces/x/endpointslices"
    assert NODES.path_of("n", "status") == "/api/v1/nodes/n/status"


def test_refusals_of_the_golden_files_are_read() -> None:
    count = 0
    for name in ("list-and-watch", "objects"):
        for each in golden.records(name):
            body = each["response"].get("body")
            if (
                isinstance(body, dict)
                and body.get("kind") == "Status"
                and body.get("code")
            ):
                made = msgspec.json.decode(json.dumps(body), type=Status)
                assert (made.code, made.message) == (body["code"], body["message"])
                count += 1
    assert count > 10
