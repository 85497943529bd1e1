"""Typed requests, against the sandbox's API server and a scripted one."""

from collections.abc import Mapping
from typing import Any

import pytest

from pyproxy.kube.client import Client
from pyproxy.kube.errors import KubeError
from pyproxy.kube.objects import (
    ObjectMeta,
    Service,
    ServicePort,
    ServiceSpec,
)
from pyproxy.kube.records import (
    Lease,
    LeaseSpec,
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    TokenReview,
    TokenReviewSpec,
)
from pyproxy.kube.resource import (
    LEASES,
    SERVICES,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
)
from pyproxy.sandbox.certificates import Authority
from tests.support.kube_sandbox import sandbox
from tests.support.kube_server import (
    Answer,
    Asked,
    Script,
    listed,
    service,
    status,
    wire_to,
)

LB = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7", "ipMode": "VIP"}]}}


def wanted(name: str, kind: str = "ClusterIP") -> Service:
    """Return a Service to create."""
    return Service(
        metadata=ObjectMeta(name=name, namespace="default", labels={"app": name}),
        spec=ServiceSpec(type=kind, ports=(ServicePort(port=80, target_port="web"),)),
    )


async def test_object_is_created_read_listed_and_deleted(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        made = await client.create(SERVICES, wanted("a"))
        assert made.spec.cluster_ip.startswith("10.96.")
        assert made.spec.ports[0].target_port == "web"
        assert await client.get(SERVICES, "default/a") == made
        found = await client.list(SERVICES, "default", labels="app=a")
        assert [each.key for each in found] == ["default/a"]
        assert len(await client.list(SERVICES)) == 2
        assert not await client.list(SERVICES, fields="metadata.name=b")
        await client.delete(SERVICES, "default/a", uid=made.metadata.uid)
        with pytest.raises(KubeError) as caught:
            await client.get(SERVICES, "default/a")
        assert caught.value.is_missing


async def test_refusals_say_what_they_are(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        await client.create(SERVICES, wanted("a"))
        with pytest.raises(KubeError) as caught:
            await client.create(SERVICES, wanted("a"))
        assert caught.value.is_taken
        assert not caught.value.is_conflict
        with pytest.raises(KubeError) as caught:
            await client.delete(SERVICES, "default/a", uid="another")
        assert caught.value.is_conflict


async def test_update_of_an_old_version_is_a_conflict(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        meta = ObjectMeta(name="l", namespace="default")
        made = await client.create(LEASES, Lease(metadata=meta))
        spec = LeaseSpec(holder_identity="me", lease_duration_seconds=15)
        newer = await client.update(LEASES, Lease(metadata=made.metadata, spec=spec))
        assert newer.spec == spec
        with pytest.raises(KubeError) as caught:
            await client.update(LEASES, Lease(metadata=made.metadata, spec=spec))
        assert caught.value.is_conflict


async def test_apply_sets_and_takes_back_its_fields(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        await client.create(SERVICES, wanted("a", "LoadBalancer"))
        key, labels = "default/a", {"metadata": {"labels": {"ours": "yes"}}}
        made = await client.apply(SERVICES, key, labels)
        assert made.metadata.labels == {"app": "a", "ours": "yes"}
        made = await client.apply(SERVICES, key, {})
        assert made.metadata.labels == {"app": "a"}
        made = await client.apply(SERVICES, key, {"status": LB}, subresource="status")
        assert made.status.load_balancer.ingress[0].ip == "192.0.2.7"


@pytest.mark.parametrize("kind", ["merge", "strategic"])
async def test_patch_changes_fields(issuer: Authority, kind: Any) -> None:
    async with sandbox(issuer) as (_, client):
        await client.create(SERVICES, wanted("a"))
        body = {"metadata": {"labels": {"b": "c"}}}
        made = await client.patch(SERVICES, "default/a", body, kind=kind)
        assert made.metadata.labels == {"app": "a", "b": "c"}


async def test_json_patch_is_a_list(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        await client.create(SERVICES, wanted("a"))
        body = [{"op": "remove", "path": "/metadata/labels/app"}]
        made = await client.patch(SERVICES, "default/a", body, kind="json")
        assert made.metadata.labels == {}


async def test_patch_status_is_tried_again_after_a_conflict(issuer: Authority) -> None:
    seen: list[str] = []

    def change(found: Service) -> Mapping[str, Any]:
        seen.append(found.metadata.resource_version)
        return {"status": LB}

    async with sandbox(issuer) as (_, client):
        old = await client.create(SERVICES, wanted("a", "LoadBalancer"))
        await client.patch(SERVICES, old.key, {"metadata": {"labels": {"b": "c"}}})
        made = await client.patch_status(SERVICES, old.key, change, known=old)
        assert made is not None
        assert made.status.load_balancer.ingress[0].ip == "192.0.2.7"
        assert len(set(seen)) == len(seen) == 2
        assert await client.patch_status(SERVICES, old.key, lambda _: None) is None


async def test_patch_status_gives_up_after_five_conflicts() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        if asked.method == "GET":
            await answer.document(service("a", 5))
        else:
            await answer.document(status(409, "Conflict"), 409)

    async with Script(serve) as script:
        client = Client(wire_to(script.url))
        with pytest.raises(KubeError) as caught:
            await client.patch_status(SERVICES, "x/a", lambda _: {"status": {}})
        assert caught.value.is_conflict
        assert len(script.asked) == 10
        await client.wire.close()


async def test_reviews_are_answered(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        spec = TokenReviewSpec(token="alice-token")
        token = await client.create(TOKEN_REVIEWS, TokenReview(spec=spec))
        assert token.status.authenticated
        assert token.status.user.username == "alice"
        asked = ResourceAttributes(
            namespace="default", verb="get", version="v1", resource="pods", name="p"
        )
        for user, allowed in (("alice", False), ("bob", True)):
            access = SubjectAccessReviewSpec(
                resource_attributes=asked, user=user, groups=("viewers",) * allowed
            )
            review = SubjectAccessReview(spec=access)
            answer = await client.create(SUBJECT_ACCESS_REVIEWS, review)
            assert answer.status.allowed is allowed


async def test_list_with_an_unreadable_object_fails() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(listed([service("odd", 5, ports=7)], 9))

    async with Script(serve) as script:
        client = Client(wire_to(script.url))
        with pytest.raises(KubeError, match="x/odd"):
            await client.list(SERVICES)
        await client.wire.close()


async def test_answer_that_is_no_object_is_malformed() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.send(b"[]")

    async with Script(serve) as script:
        client = Client(wire_to(script.url))
        with pytest.raises(KubeError) as caught:
            await client.get(SERVICES, "x/a")
        assert caught.value.reason == "Malformed"
        await client.wire.close()
