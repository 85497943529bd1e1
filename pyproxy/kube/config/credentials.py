"""Our credentials: a header, a certificate, and what to trust; kept fresh.

Credentials change under a running proxy: tokens are rotated on disk, plugins are asked
again, certificates are renewed. Users look at `generation`, or are called.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.files import Kept, read
from pyproxy.kube.config.headers import Pairs, bearer

TOKEN_PERIOD_S = 60.0  # half of what the kubelet leaves a projected token to live
TOKEN_LEEWAY_S = 10.0
FOREVER_S = float("inf")

Pair = tuple[bytes, bytes]

# Of the whole process: those that replace others after a reload never look like them.
_generations = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, at one moment."""

    authorization: str = field(default="", repr=False)  # value of the header; "" = none
    pair: Pair | None = field(default=None, repr=False)


class Source(Protocol):
    """Where an identity comes from."""

    refreshable: bool  # whether a 401 may be cured by asking again

    @property
    def identity(self) -> Identity:
        """The last one; before the first `refresh` perhaps nobody."""

    async def refresh(self) -> None:
        """Make sure that `identity` is good. Raise CredentialsError."""

    def fresh_for_s(self) -> float:
        """Return for how long it may be used without asking again."""

    def reject(self) -> bool:
        """Learn of a 401. Return whether asking again may help."""

    def poll(self) -> None:
        """Look at files."""

    async def close(self) -> None:
        """Let go of everything."""


class Fixed:
    """A token or a password that stands in the kubeconfig; or nothing at all."""

    refreshable = False

    def __init__(self, authorization: str = "") -> None:
        self.identity = Identity(authorization)

    async def refresh(self) -> None:
        """Nothing to do."""

    def fresh_for_s(self) -> float:
        """For good."""
        return FOREVER_S

    def reject(self) -> bool:
        """There is nothing else to show."""
        return False

    def poll(self) -> None:
        """Nothing to look at."""

    async def close(self) -> None:
        """Nothing to let go of."""


class TokenFile:
    """A token that another process rotates: read again every minute, less a leeway.

    Its content wins over the token that stands beside it in the kubeconfig, which only
    helps until the file can be read. Once read, the last good content stays.
    """

    refreshable = True

    def __init__(self, file: str, fallback: str, clock: Clock) -> None:
        """Raise ValueError if there is neither a token in the file nor a fallback."""
        self._file = file
        self._clock = clock
        self._fallback = fallback
        self._kept = Kept("token file", (file,), self._read)
        self._read_at = clock.monotonic()

    @property
    def identity(self) -> Identity:
        """The token."""
        return self._kept.value

    async def refresh(self) -> None:
        """Read the file if it is time; an old token is better than none."""
        if not self.fresh_for_s():
            self._read_again()

    def fresh_for_s(self) -> float:
        """Until the file is to be read again."""
        ends_at = self._read_at + TOKEN_PERIOD_S - TOKEN_LEEWAY_S
        return max(0.0, ends_at - self._clock.monotonic())

    def reject(self) -> bool:
        """Read the file now."""
        return self._read_again()

    def poll(self) -> None:
        """Read the file if it changed, or if it is time."""
        if not self._kept.poll() and not self.fresh_for_s():
            self._read_again()

    async def close(self) -> None:
        """Nothing to let go of."""

    def _read_again(self) -> bool:
        self._read_at = self._clock.monotonic()
        return self._kept.poll(force=True)

    def _read(self) -> Identity:
        fallback, self._fallback = self._fallback, ""
        try:
            token = read(self._file).strip()
            if not token:
                raise ValueError(f'read empty token from file "{self._file}"')
            return Identity(bearer(token.decode("utf-8", "replace")))
        except ValueError:
            if not fallback:
                raise
            return Identity(bearer(fallback))


class Credentials:
    """What to show and what to trust, now."""

    def __init__(
        self,
        source: Source,
        pair: Kept[Pair] | None = None,
        authority: Kept[bytes] | None = None,
    ) -> None:
        self._source = source
        self._pair = pair
        self._authority = authority
        self._callbacks: list[Callable[[], None]] = []
        self._seen = self._now()
        self.generation = next(_generations)

    def __repr__(self) -> str:
        """Say nothing that is secret."""
        return f"<Credentials {type(self._source).__name__} {self.generation}>"

    @property
    def refreshable(self) -> bool:
        """Whether a 401 may be cured by asking again."""
        return self._source.refreshable

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to show, and never will be."""
        fixed = isinstance(self._source, Fixed)
        return fixed and self._source.identity == Identity() and self._pair is None

    async def headers(self) -> Pairs:
        """Return the headers to add, at most Authorization. Raise CredentialsError.

        The first call may take as long as a person needs to log in. A certificate that
        a plugin gives is there only after it: call this before `tls`.
        """
        await self._source.refresh()
        self._notice()
        authorization = self._source.identity.authorization
        return (("Authorization", authorization),) if authorization else ()

    def fresh_for_s(self) -> float:
        """Return how long the last headers may be remembered; inf = until told."""
        return self._source.fresh_for_s()

    def tls(self) -> Pair | None:
        """Return the client's certificate and key in PEM."""
        return self._source.identity.pair if self._pair is None else self._pair.value

    def authority(self) -> bytes | None:
        """Return in PEM what to trust; None = the system's authorities, b"" = none."""
        return None if self._authority is None else self._authority.value

    def rejected(self, generation: int | None = None) -> bool:
        """Learn that the apiserver answered 401. Return whether to try once more.

        With the `generation` that was rejected, nothing is thrown away that is newer.
        """
        if generation is not None and generation != self.generation:
            return True
        return self._source.reject()

    def poll(self) -> bool:
        """Look whether files changed. Return whether `generation` did."""
        self._source.poll()
        for kept in (self._pair, self._authority):
            if kept is not None:
                kept.poll()
        return self._notice()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back whenever `generation` has changed."""
        self._callbacks.append(callback)

    async def close(self) -> None:
        """End what runs."""
        self._callbacks.clear()
        await self._source.close()

    def _now(self) -> tuple[object, ...]:
        return (self._source.identity, self.tls(), self.authority())

    def _notice(self) -> bool:
        now = self._now()
        if now == self._seen:
            return False
        self._seen = now
        self.generation = next(_generations)
        for callback in tuple(self._callbacks):
            callback()
        return True
