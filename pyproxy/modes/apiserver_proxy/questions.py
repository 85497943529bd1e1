"""From what a policy needs to know to a question, and back to an answer."""

from pyproxy.discovery.names import resolve
from pyproxy.discovery.targets import Lookup
from pyproxy.errors import ConfigError
from pyproxy.http.identity import Token, User
from pyproxy.kube.records import (
    ResourceAttributes,
    SubjectAccessReviewSpec,
    UserInfo,
)
from pyproxy.kube.reviews import Reviewer
from pyproxy.modes.apiserver_proxy.answers import Answer
from pyproxy.modes.apiserver_proxy.policy import Access, Decision, Need


class Asking:
    """Asks an apiserver about users, and the resolver about names."""

    def __init__(self, reviewer: Reviewer) -> None:
        self._reviewer = reviewer

    async def ask(self, need: Need) -> Answer:
        """Return the answer to a need. Raise KubeError."""
        if isinstance(need, Token):
            info = await self._reviewer.who(need.text)
            return None if info is None else user_of(info)
        if isinstance(need, Lookup):
            try:
                return await resolve(need.host)
            except ConfigError:
                return ()
        status = await self._reviewer.may(spec_of(need))
        # Whoever is denied by one authorizer is not allowed by another.
        return Decision(status.allowed and not status.denied, status.reason)


def user_of(info: UserInfo) -> User:
    """Return a user as policies know one."""
    extra = tuple(sorted((key, tuple(info.extra[key])) for key in info.extra))
    return User(info.username, info.uid, info.groups, extra)


def spec_of(access: Access) -> SubjectAccessReviewSpec:
    """Return the question; path and query of the request are no part of it."""
    user = access.user
    return SubjectAccessReviewSpec(
        resource_attributes=ResourceAttributes(
            namespace=access.namespace,
            verb=access.verb,
            group=access.group,
            version="v1",
            resource=access.resource,
            subresource=access.subresource,
            name=access.name,
        ),
        user=user.name,
        groups=user.groups,
        uid=user.uid,
        extra=dict(user.extra),
    )
