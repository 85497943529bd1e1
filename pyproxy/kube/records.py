"""Kinds that we write ourselves: Leases, Events, and questions about users."""

from collections.abc import Mapping

from pyproxy.kube.objects import Object, ObjectReference, Part


class LeaseSpec(Part, frozen=True, kw_only=True):
    """The holder of a Lease, since when, and for how long after `renew_time`."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Object, frozen=True, kw_only=True):
    """What only one can hold at a time."""

    spec: LeaseSpec = LeaseSpec()


class EventSource(Part, frozen=True, kw_only=True):
    """The program that reports."""

    component: str = ""
    host: str = ""


class Event(Object, frozen=True, kw_only=True):
    """Something that happened to an object, for people to read (core/v1)."""

    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    source: EventSource = EventSource()
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int = 0
    reporting_component: str = ""
    reporting_instance: str = ""


class TokenReviewSpec(Part, frozen=True, kw_only=True):
    """A token, and for whom it must be good."""

    token: str = ""
    audiences: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Say nothing that is secret."""
        return "TokenReviewSpec(…)"


class UserInfo(Part, frozen=True, kw_only=True):
    """A user, as far as the apiserver knows one."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = {}


class TokenReviewStatus(Part, frozen=True, kw_only=True):
    """Whose token it is."""

    authenticated: bool = False
    user: UserInfo = UserInfo()
    audiences: tuple[str, ...] = ()
    error: str = ""


class TokenReview(Object, frozen=True, kw_only=True):
    """The question whose token this is."""

    spec: TokenReviewSpec = TokenReviewSpec()
    status: TokenReviewStatus = TokenReviewStatus()


class ResourceAttributes(Part, frozen=True, kw_only=True):
    """What somebody wants to do with a resource."""

    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class NonResourceAttributes(Part, frozen=True, kw_only=True):
    """What somebody wants to do with a path that is no resource."""

    path: str = ""
    verb: str = ""


class SubjectAccessReviewSpec(Part, frozen=True, kw_only=True):
    """Who wants to do what."""

    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: NonResourceAttributes | None = None
    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


class SubjectAccessReviewStatus(Part, frozen=True, kw_only=True):
    """Whether they may."""

    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluation_error: str = ""


class SubjectAccessReview(Object, frozen=True, kw_only=True):
    """The question whether somebody may do something."""

    spec: SubjectAccessReviewSpec = SubjectAccessReviewSpec()
    status: SubjectAccessReviewStatus = SubjectAccessReviewStatus()
