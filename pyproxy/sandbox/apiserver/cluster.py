"""What all handlers share, and one request with what is known about it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyproxy.sandbox.apiserver.identity import TOKENS, Identities, Identity
from pyproxy.sandbox.apiserver.kinds import Resource
from pyproxy.sandbox.apiserver.rbac import Authorizer
from pyproxy.sandbox.apiserver.refusal import no_such_resource
from pyproxy.sandbox.apiserver.route import Target
from pyproxy.sandbox.apiserver.store import Store


@dataclass(slots=True)
class Cluster:
    """The whole state."""

    store: Store = field(default_factory=Store)
    identities: Identities = field(default_factory=lambda: Identities(TOKENS))
    second: float = 1.0  # how long a second of a watch's timeout takes, for tests
    address: str = ""  # HOST:PORT at which clients find us
    authorizer: Authorizer = field(init=False)

    def __post_init__(self) -> None:
        self.authorizer = Authorizer(self.store)

    def now(self) -> str:
        """This moment, as objects carry it."""
        return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a resource."""

    target: Target
    query: Mapping[str, str]
    identity: Identity
    user_agent: str = ""

    @property
    def resource(self) -> Resource:
        """What it is about.

        Raises:
            Refusal: nothing is served there.
        """
        found = self.target.resource
        if found is None:
            raise no_such_resource()
        return found

    @property
    def manager(self) -> str:
        """Who will own the fields that it sets."""
        named = self.query.get("fieldManager", "")
        return named or self.user_agent.partition("/")[0] or "unknown"

    @property
    def is_dry(self) -> bool:
        """Whether it only asks what would be."""
        return self.query.get("dryRun") == "All"
