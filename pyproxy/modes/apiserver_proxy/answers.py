"""What an apiserver has answered, for a while: bounded, and tokens only as digests."""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from pyproxy.discovery.targets import Lookup
from pyproxy.http.identity import Token, User
from pyproxy.modes.apiserver_proxy.policy import Access, Decision, Missing, Need

K = TypeVar("K")
V = TypeVar("V")

MOST_TOKENS = 16_384
MOST_ACCESSES = 65_536
MOST_NAMES = 4096
NAME_S = 30.0  # an address of a name is good for so long

Answer = User | Decision | tuple[str, ...] | None
NOTHING: Mapping[Need, Answer] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Lives:
    """For how long answers are good, in seconds."""

    token_s: float = 10.0
    allow_s: float = 10.0
    deny_s: float = 10.0


class Bounded(Generic[K, V]):
    """The most recent answers, each until its time is over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: K, value: V, ends_at: float) -> None:
        """Keep a value; the one that was kept first makes room."""
        self._kept.pop(key, None)
        self._kept[key] = (value, ends_at)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def get(self, key: K, now: float) -> tuple[V, float] | None:
        """Return a value and when its time is over; None = there is none."""
        found = self._kept.get(key)
        if found is not None and found[1] <= now:
            del self._kept[key]
            return None
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


class Memory:
    """All answers."""

    def __init__(self, lives: Lives, now: Callable[[], float]) -> None:
        self.lives = lives
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._users: Bounded[bytes, User | None] = Bounded(MOST_TOKENS)
        self._accesses: Bounded[Access, Decision] = Bounded(MOST_ACCESSES)
        self._names: Bounded[str, tuple[str, ...]] = Bounded(MOST_NAMES)

    def keep(self, need: Need, answer: Answer) -> None:
        """Remember the answer to a need."""
        now = self._now()
        if isinstance(need, Token):
            assert answer is None or isinstance(answer, User)
            ends_at = now + self.lives.token_s
            self._users.put(self._digest(need), answer, ends_at)
        elif isinstance(need, Access):
            assert isinstance(answer, Decision)
            lives = self.lives
            life_s = lives.allow_s if answer.is_allowed else lives.deny_s
            self._accesses.put(need, answer, now + life_s)
        else:
            assert isinstance(answer, tuple)
            self._names.put(need.host, answer, now + NAME_S)

    def look(self, fresh: Mapping[Need, Answer] = NOTHING) -> "Look":
        """Return what is known; what is `fresh` counts, even if it is not kept."""
        return Look(self, self._now(), fresh)

    def clear(self) -> None:
        """Forget everything."""
        for each in (self._users, self._accesses, self._names):
            each.clear()

    def user(self, token: Token, now: float) -> tuple[User | None, float] | None:
        """Return whose token it is."""
        return self._users.get(self._digest(token), now)

    def access(self, access: Access, now: float) -> tuple[Decision, float] | None:
        """Return whether a user may do it."""
        return self._accesses.get(access, now)

    def addresses(self, name: str, now: float) -> tuple[tuple[str, ...], float] | None:
        """Return the addresses of a name."""
        return self._names.get(name, now)

    def _digest(self, token: Token) -> bytes:
        return hmac.digest(
            self._secret, token.text.encode("utf-8", "replace"), "sha256"
        )


class Look:
    """One look at the memory, for one decision; knows for how long that is good."""

    def __init__(
        self, memory: Memory, now: float, fresh: Mapping[Need, Answer]
    ) -> None:
        self._memory, self._now, self._given = memory, now, fresh
        self._ends_at = float("inf")
        self.names: Mapping[str, tuple[str, ...]] = _Names(self)

    @property
    def ttl_s(self) -> float:
        """For how long all that was used is good."""
        return self._ends_at - self._now

    def user(self, token: Token) -> User | None:
        """Return whose token it is; None = nobody's. Raise Missing."""
        found = self._memory.user(token, self._now)
        if found is None:
            return self._fresh(token, User)
        return self._used(found)

    def access(self, access: Access) -> Decision:
        """Return whether a user may do it. Raise Missing."""
        found = self._memory.access(access, self._now)
        if found is None:
            fresh = self._fresh(access, Decision)
            assert fresh is not None
            return fresh
        return self._used(found)

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """Return the addresses of a name; None = not known."""
        found = self._memory.addresses(name, self._now)
        if found is not None:
            return self._used(found)
        need = Lookup(name)
        return self._fresh(need, tuple) if need in self._given else None

    def _fresh(self, need: Need, kind: type[V]) -> V | None:
        """Return an answer that came while the question waited, for this time only."""
        if need not in self._given:
            raise Missing(need)
        self._ends_at = self._now
        answer = self._given[need]
        assert answer is None or isinstance(answer, kind)
        return answer

    def _used(self, found: tuple[V, float]) -> V:
        self._ends_at = min(self._ends_at, found[1])
        return found[0]


class _Names(Mapping[str, tuple[str, ...]]):
    """Addresses by name; using one is noted."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def __getitem__(self, name: str) -> tuple[str, ...]:
        found = self._look.addresses(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
