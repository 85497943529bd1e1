"""Questions to an apiserver about users: whose token is this, may they do that.

Nothing is remembered here, and nothing is tried again: whoever asks knows how long an
answer is good for. A redirect is no answer (CVE-2020-8561).
"""

from pyproxy.kube.client import Client
from pyproxy.kube.records import (
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
    TokenReview,
    TokenReviewSpec,
    UserInfo,
)
from pyproxy.kube.resource import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS


class Reviewer:
    """Asks over one client."""

    def __init__(self, client: Client, audiences: tuple[str, ...] = ()) -> None:
        """Accept tokens for one of `audiences`; none = the apiserver's own."""
        self._client = client
        self._audiences = audiences

    async def who(self, token: str) -> UserInfo | None:
        """Return whose token it is; None = nobody's. Raise KubeError."""
        spec = TokenReviewSpec(token=token, audiences=self._audiences)
        answer = await self._client.create(TOKEN_REVIEWS, TokenReview(spec=spec))
        status = answer.status
        if not status.authenticated:
            return None
        # One that knows no audiences answers without any: its own are not ours.
        if self._audiences and not set(self._audiences) & set(status.audiences):
            return None
        return status.user

    async def may(self, spec: SubjectAccessReviewSpec) -> SubjectAccessReviewStatus:
        """Return whether a user may do something, and why. Raise KubeError."""
        asked = SubjectAccessReview(spec=spec)
        answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, asked)
        return answer.status
