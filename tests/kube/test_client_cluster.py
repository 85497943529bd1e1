"""What we write, as a real kube-apiserver takes it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from pyproxy.kube.client import Client
from pyproxy.kube.errors import KubeError
from pyproxy.kube.events import Recorder, reference
from pyproxy.kube.lease import Elector, Terms
from pyproxy.kube.objects import ObjectMeta, Service, ServicePort, ServiceSpec
from pyproxy.kube.records import (
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    TokenReview,
    TokenReviewSpec,
)
from pyproxy.kube.resource import (
    EVENTS,
    LEASES,
    SERVICES,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
)
from tests.support import realcluster
from tests.support.kube_keeper import Kept
from tests.support.kube_sandbox import wire_of
from tests.support.kube_server import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

LB = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7", "ipMode": "VIP"}]}}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """One for all tests."""
    if obstacle := realcluster.obstacle():
        pytest.skip(obstacle)
    with Kept("real", tmp_path_factory.mktemp("real")) as kept:
        yield kept


@pytest.fixture
async def client(real: Kept) -> AsyncIterator[Client]:
    """An administrator."""
    wire = wire_of(real.url, real.ca)
    yield Client(wire, manager="pyproxy-test")
    await wire.close()


async def made(client: Client, name: str) -> Service:
    """Create a Service with a load balancer."""
    spec = ServiceSpec(type="LoadBalancer", ports=(ServicePort(port=80),))
    metadata = ObjectMeta(name=name, namespace="default")
    return await client.create(SERVICES, Service(metadata=metadata, spec=spec))


async def test_services_are_patched_and_applied(client: Client) -> None:
    found = await made(client, "a")
    assert found.spec.allocate_load_balancer_node_ports
    finalizer = {"metadata": {"finalizers": ["example.com/ours"]}}
    await client.patch(SERVICES, found.key, finalizer)
    changed = await client.patch_status(
        SERVICES, found.key, lambda _: {"status": LB}, known=found
    )
    assert changed is not None
    assert changed.status.load_balancer.ingress[0].ip_mode == "VIP"
    applied = await client.apply(
        SERVICES, found.key, {"metadata": {"annotations": {"example.com/x": "y"}}}
    )
    assert applied.metadata.annotations == {"example.com/x": "y"}
    with pytest.raises(KubeError) as caught:
        await client.apply(SERVICES, found.key, {"spec": {"type": "ClusterIP"}})
    assert caught.value.is_conflict
    other = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}]}}}
    status = await client.apply(
        *(SERVICES, found.key, other), subresource="status", force=True
    )
    assert status.status.load_balancer.ingress[-1].ip == "192.0.2.8"
    await client.patch(SERVICES, found.key, {"metadata": {"finalizers": None}})
    await client.delete(SERVICES, found.key, uid=found.metadata.uid)


async def test_lease_is_won_given_back_and_taken_over(client: Client) -> None:
    terms = Terms(lease_s=3, renew_deadline_s=2, retry_s=0.2)

    async def lead() -> None:
        await asyncio.Event().wait()

    electors = [Elector(client, "default/lock", name, terms=terms) for name in "ab"]
    for elector in electors:
        task = asyncio.create_task(elector.run(lead))
        await until(lambda e=elector: e.is_leader)  # type: ignore[misc]
        await asyncio.sleep(0.5)  # some renewals
        assert elector.is_leader
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        lease = await client.get(LEASES, "default/lock")
        assert lease.spec.holder_identity == ""
    assert lease.spec.lease_transitions == 1


async def test_events_are_written_and_counted(client: Client) -> None:
    found = await made(client, "b")
    recorder = Recorder(client, "pyproxy", "here")
    task = asyncio.create_task(recorder.run())
    for _ in range(2):
        recorder.event(reference(SERVICES, found), "Normal", "Tested", "it was")
    await recorder.flushed()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    fields = f"involvedObject.uid={found.metadata.uid}"
    (event,) = await client.list(EVENTS, "default", fields=fields)
    assert (event.count, event.message, event.type) == (2, "it was", "Normal")
    assert not recorder.dropped
    await client.delete(SERVICES, found.key)


async def test_reviews_are_answered(client: Client) -> None:
    spec = TokenReviewSpec(token="bob-token")
    review = await client.create(TOKEN_REVIEWS, TokenReview(spec=spec))
    user = review.status.user
    assert (review.status.authenticated, user.username) == (True, "bob")
    wanted = ResourceAttributes(
        namespace="default", verb="get", version="v1", resource="pods", name="p"
    )
    asked = SubjectAccessReviewSpec(
        resource_attributes=wanted, user=user.username, groups=user.groups
    )
    answer = await client.create(
        SUBJECT_ACCESS_REVIEWS, SubjectAccessReview(spec=asked)
    )
    assert answer.status.allowed


async def test_user_without_rights_is_told_so(real: Kept) -> None:
    wire = wire_of(real.url, real.ca, token="alice-token")
    with pytest.raises(KubeError) as caught:
        await Client(wire).list(SERVICES)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    assert not caught.value.is_transient
    await wire.close()
