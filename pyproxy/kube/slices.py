"""EndpointSlices as a node's Service proxy reads them: a tuple for each endpoint.

A cluster of 100,000 endpoints is held whole by every node. As structs, with the Pod
behind each of them, they take 700 bytes each; as rows that share their names, 150.
"""

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import force_setattr

from pyproxy.kube.objects import (
    EndpointConditions,
    EndpointHints,
    EndpointPorts,
    ForName,
    Object,
    Part,
)
from pyproxy.kube.resource import ENDPOINT_SLICES, Resource
from pyproxy.kube.spelling import canonical

SERVICE_NAME = "kubernetes.io/service-name"
CHANGED_AT = "endpoints.kubernetes.io/last-change-trigger-time"

# States of a row, added up. A stranger is no address of the kind that the slice has.
READY, SERVING, TERMINATING, STRANGER = 1, 2, 4, 8

Names: TypeAlias = tuple[str, ...]
# Address, state, node, zones and nodes that it is meant for; "" and () = not said.
Row: TypeAlias = tuple[str, int, str, Names, Names]

NONE: Names = ()
UNSAID = EndpointConditions()
STATES = {
    (ready, serving, terminating): (ready is not False) * READY
    + (serving is not False) * SERVING
    + (terminating is True) * TERMINATING
    for ready in (None, False, True)
    for serving in (None, False, True)
    for terminating in (None, False, True)
}


class BriefEndpoint(Part, frozen=True, kw_only=True):
    """One endpoint as it comes; a row is made of it."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = UNSAID
    node_name: str | None = None
    hints: EndpointHints | None = None


# What is decoded, and what there is afterwards: see __post_init__.
if TYPE_CHECKING:
    Rows: TypeAlias = tuple[Row, ...]
else:
    Rows = tuple[BriefEndpoint, ...] | None


class BriefSlice(Object, frozen=True, kw_only=True):
    """Some of the endpoints of a Service; only those with an address, and that alone.

    Not to be written: most fields of an EndpointSlice are missing.
    """

    address_type: str = ""
    endpoints: Rows = ()
    ports: EndpointPorts = ()

    def __post_init__(self) -> None:
        rows = rows_of(self.endpoints, self.address_type == "IPv6")
        force_setattr(self, "endpoints", rows)
        if self.ports is None:
            force_setattr(self, "ports", ())

    @property
    def service(self) -> str:
        """The key of its Service; "" = it has none."""
        metadata = self.metadata
        name = metadata.labels.get(SERVICE_NAME, "")
        return f"{metadata.namespace}/{name}" if name else ""

    @property
    def changed_at(self) -> str:
        """When the change happened that this version tells of; "" = not said."""
        return self.metadata.annotations.get(CHANGED_AT, "")


def rows_of(
    endpoints: "tuple[BriefEndpoint | Row, ...] | None", is_ipv6: bool
) -> tuple[Row, ...]:
    """Return rows; what is one already stays as it is."""
    intern = sys.intern
    rows: list[Row] = []
    for each in endpoints or ():
        if not isinstance(each, BriefEndpoint):
            rows.append(each)
            continue
        if not each.addresses:
            continue
        address = canonical(each.addresses[0])
        said, hints = each.conditions, each.hints
        state = STATES[said.ready, said.serving, said.terminating]
        if not address or (":" in address) is not is_ipv6:
            address, state = each.addresses[0], STRANGER
        node = intern(each.node_name) if each.node_name else ""
        if hints is None:
            rows.append((address, state, node, NONE, NONE))
        else:
            zones, nodes = _names(hints.for_zones), _names(hints.for_nodes)
            rows.append((address, state, node, zones, nodes))
    return tuple(rows)


def _names(named: tuple[ForName, ...]) -> Names:
    return _shared(tuple([each.name for each in named])) if named else NONE


@lru_cache(maxsize=4096)
def _shared(names: Names) -> Names:
    return names


BRIEF_SLICES: Resource[BriefSlice] = Resource(
    ENDPOINT_SLICES.group,
    ENDPOINT_SLICES.version,
    ENDPOINT_SLICES.plural,
    ENDPOINT_SLICES.kind,
    BriefSlice,
)
