"""What an audit log says of requests: `audit.k8s.io/v1` Events at level Metadata.

What was decided about a request is a Trail. The core remembers a decision under a
number, and gives that number back in the record of each request that it decided.

Source: apiserver, audit/request.go; what kube-apiserver 1.36 wrote.
"""

import ipaddress
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pyproxy.dataplane import Record
from pyproxy.http.identity import User
from pyproxy.http.proxypath import VERBS, ProxyPath, parse

# What records must have of a request; see `event_of`.
HEADERS = ("user-agent", "audit-id", "x-forwarded-for", "x-real-ip")
MOST_TARGET = 8192  # bytes of path and query
MOST_TRAILS = 65_536  # of decisions that are remembered
MOST_PASSING = 16_384  # and of others
_ID = re.compile(r"[!-~]{1,64}")  # of a client, to be taken over


class Refusal(NamedTuple):
    """What our Status says."""

    reason: str
    message: str
    details: tuple[tuple[str, object], ...] = ()


class Target(NamedTuple):
    """The object that a request is for."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, path: ProxyPath) -> "Target":
        """Return that of a proxy URL."""
        return cls(path.kind, path.namespace, path.id)


@dataclass(slots=True, unsafe_hash=True)
class Trail:
    """What was decided about a request, and on what grounds.

    It is filled in while the decision is made, and does not change afterwards.
    """

    target: Target | None = None  # behind a proxy URL; None = something else
    verb: str | None = None  # None = as the method says
    user: User | None = None  # who sends it; None = it is not known
    other: User | None = None  # in whose name; None = in no other's
    decision: str = ""  # "allow" or "forbid"; "" = it did not come to that
    reason: str = ""  # of the decision
    refusal: Refusal | None = None  # None = what was answered is no Status of ours
    passed_on: bool = False  # to the apiserver, which has a log of its own


class Trails:
    """Trails by number, and numbers by trail; as many as the core may still name.

    When there are too many, the core is told to forget what it remembers; the last ones
    are kept once more, for requests that are under way.
    """

    def __init__(self, forget: Callable[[], None], most: int = MOST_TRAILS) -> None:
        self._forget, self._most = forget, most
        self._last = 0
        self._numbers: dict[Trail, int] = {}
        self._trails: dict[int, Trail] = {}
        self._old: dict[int, Trail] = {}
        self._passing: dict[int, Trail] = {}

    def number(self, trail: Trail) -> int:
        """Return the number of a trail, the same for equal ones; never 0."""
        found = self._numbers.get(trail)
        if found is not None:
            return found
        if len(self._numbers) >= self._most:
            self._old, self._trails, self._numbers = self._trails, {}, {}
            self._forget()
        self._last += 1
        self._numbers[trail] = self._last
        self._trails[self._last] = trail
        return self._last

    def pass_by(self, trail: Trail) -> int:
        """Return a number for one request, whose decision is not remembered.

        Such trails take no room of the others: whoever asks for ten thousand objects
        that are not there makes nothing be forgotten.
        """
        self._last += 1
        self._passing[self._last] = trail
        if len(self._passing) > MOST_PASSING:
            del self._passing[next(iter(self._passing))]
        return self._last

    def get(self, number: int) -> Trail | None:
        """Return the trail of a number; None = there is none, or it is forgotten."""
        for known in (self._trails, self._passing, self._old):
            if (found := known.get(number)) is not None:
                return found
        return None


class Ids:
    """Ids of events: those of clients, or of our own making, one for each exchange."""

    def __init__(self) -> None:
        # Version and variant as RFC 9562 has them for ids that anybody may make up.
        self._high = secrets.randbits(64) & ~0xF000 | 0x8000

    def id_of(self, record: Record, said: str | None) -> str:
        """Return the same id for all records of an exchange."""
        if said is not None and _ID.fullmatch(said):
            return said
        return str(uuid.UUID(int=self._high << 64 | 1 << 63 | record.id))


def event_of(
    record: Record, trail: Trail | None, ids: Ids, clock_s: float
) -> dict[str, object]:
    """Return the event of a record that has HEADERS.

    Args:
        record: of an exchange, or of the beginning of a tunnel.
        trail: what was decided; None = nothing, or it is not known any more.
        ids: makes ids.
        clock_s: what is added to CLOCK_MONOTONIC to get the time of day.
    """
    agent, said_id, forwarded, real = record.headers
    lost = trail is None and record.label != 0
    if trail is None:
        path = parse(record.path)
        trail = Trail(Target.of(path) if path is not None else None)
    began_s = clock_s + record.began_us / 1e6
    verb = VERBS.get(record.method, "") if trail.verb is None else trail.verb
    event: dict[str, object] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": ids.id_of(record, said_id),
        "stage": "ResponseComplete" if record.is_over else "ResponseStarted",
        "requestURI": record.path + record.query,
        "verb": verb,
        "user": _user(trail.user) if trail.user is not None else {},
    }
    if trail.other is not None:
        event["impersonatedUser"] = _user(trail.other)
    event["sourceIPs"] = _sources(forwarded or "", real or "", record.source)
    if agent:
        event["userAgent"] = agent.encode("latin-1").decode("utf-8", "replace")
    if trail.target is not None:
        event["objectRef"] = _object(trail.target)
    event["responseStatus"] = _status(record.status, trail)
    event["requestReceivedTimestamp"] = _time(began_s)
    event["stageTimestamp"] = _time(began_s + record.took_us / 1e6)
    notes = _notes(record, trail, lost=lost)
    if notes:
        event["annotations"] = notes
    return event


def _user(user: User) -> dict[str, object]:
    found: dict[str, object] = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = user.groups
    if user.extra:
        found["extra"] = dict(user.extra)
    return found


def _object(target: Target) -> dict[str, str]:
    found = {"resource": target.kind}
    if target.namespace:
        found["namespace"] = target.namespace
    return {**found, "name": target.name, "apiVersion": "v1", "subresource": "proxy"}


def _status(code: int, trail: Trail) -> dict[str, object]:
    found: dict[str, object] = {"metadata": {}}
    if trail.refusal is not None:
        reason, message, details = trail.refusal
        found |= {"status": "Failure", "message": message, "reason": reason}
        if details:
            found["details"] = dict(details)
    return {**found, "code": code}


def _notes(record: Record, trail: Trail, *, lost: bool) -> dict[str, str]:
    notes = {}
    if trail.decision:
        notes["authorization.k8s.io/decision"] = trail.decision
        notes["authorization.k8s.io/reason"] = trail.reason
    if record.is_cut:
        notes["pyproxy/request-uri"] = "cut"
    if lost:
        notes["pyproxy/user"] = "forgotten"
    return notes


def _sources(forwarded: str, real: str, peer: str) -> list[str]:
    """Return where a request says it comes from, and the address it came from.

    Source: apimachinery, util/net.SourceIPs.
    """
    found = [ip for text in forwarded.split(",") if (ip := _ip(text))]
    said = _ip(real)
    if said and said not in found:
        found.append(said)
    if peer and found[-1:] != [peer]:
        found.append(peer)
    return found


def _ip(text: str) -> str:
    try:
        ip = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
