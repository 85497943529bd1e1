"""Names to addresses, remembered: a resolver that is down must not empty a pool."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterable, Mapping

from pyproxy.errors import ConfigError

logger = logging.getLogger(__name__)

RESOLVE_TIMEOUT_S = 10.0  # two tries of a resolver with the usual 5 s each
SPACING_S = 1.0  # between two lookups, whatever happens


class Due:
    """When names are to be looked up again: in a while, or at once after a failure.

    A name that moved shows when a dial to its old address fails.
    """

    def __init__(self, spacing_s: float = SPACING_S) -> None:
        self._spacing_s = spacing_s
        self._now = asyncio.Event()

    def hurry(self) -> None:
        """End the waiting, now or when the last lookup is long enough ago."""
        self._now.set()

    async def wait(self, period_s: float) -> None:
        """Return when it is time; call it right after a lookup."""
        await asyncio.sleep(min(self._spacing_s, period_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, period_s - self._spacing_s)):
                await self._now.wait()
        self._now.clear()


class Names:
    """The addresses of each name, as last seen."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._errors: dict[str, str] = {}

    @property
    def known(self) -> Mapping[str, tuple[str, ...]]:
        """Sorted IP literals of each name; never empty."""
        return self._known

    @property
    def errors(self) -> Mapping[str, str]:
        """Why a name was not resolved the last time; an old answer may be kept."""
        return self._errors

    async def refresh(self, names: Iterable[str]) -> bool:
        """Resolve exactly `names`, keeping the last answer where there is none now.

        Returns whether an answer changed. Names without any answer stay unknown.
        """
        wanted = sorted(set(names))
        answers = await asyncio.gather(*map(_try_to_resolve, wanted))
        before, failed_before = self._known, self._errors
        self._known, self._errors = {}, {}
        for name, (found, error) in zip(wanted, answers, strict=True):
            if error:
                self._errors[name] = error
                found = before.get(name, ())
                if found and name not in failed_before:  # say it once per outage
                    logger.warning(
                        "name not resolved, keeping its last addresses",
                        extra={"host": name, "why": error},
                    )
            if found:
                self._known[name] = found
        return before != self._known


async def _try_to_resolve(host: str) -> tuple[tuple[str, ...], str]:
    try:
        return await resolve(host), ""
    except ConfigError as error:
        return (), str(error)


# What libc takes for an address, as 0x7f.1 or 2130706433, and Go for a name of nobody.
_NUMBER = re.compile(r"(?:.*\.)?(?:0[xX][0-9a-fA-F]*|[0-9]+)\.?", re.ASCII)


async def resolve(host: str) -> tuple[str, ...]:
    """Return every address of a name. Raise ConfigError saying why there is none."""
    if _NUMBER.fullmatch(host):
        raise ConfigError(f"cannot resolve {host}: Name or service not known")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(
                host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
    except TimeoutError:
        raise ConfigError(f"cannot resolve {host}: no answer") from None
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot resolve {host}: {why}") from error
    addresses = {str(info[4][0]) for info in found}
    # IPv4 first, then by text: the same list from the same answer, in any order.
    return tuple(sorted(addresses, key=lambda address: (":" in address, address)))
