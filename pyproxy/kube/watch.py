"""The access in use, renewed when a file behind it changes.

Files are looked at every few seconds: stat(2) sees every way in which files are
replaced, on every file system. The context that was chosen at the start stays chosen:
`kubectl config use-context` in another window must not turn a running proxy to another
cluster.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from pyproxy.kube.access import Access, load
from pyproxy.kube.clock import Clock
from pyproxy.kube.errors import AccessError
from pyproxy.kube.files import stamps
from pyproxy.kube.flags import ClientFlags
from pyproxy.kube.kubeconfig import candidates

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0


class Current:
    """The access that some flags lead to, as of the last `poll`."""

    def __init__(
        self,
        flags: ClientFlags,
        env: Mapping[str, str] = os.environ,
        *,
        clock: Clock | None = None,
        check: Callable[[Access], None] = lambda _: None,
    ) -> None:
        """Load it. Raise AccessError, as `check` does of what is of no use to us."""
        self._env = env
        self._clock = clock or Clock()
        self._check = check
        self._old: list[Access] = []
        self._failed = ""
        self._files = candidates(flags.kubeconfig, env)
        self._stamps = stamps(self._files)
        self.access = load(flags, env, clock=self._clock)
        check(self.access)
        self._flags = msgspec.structs.replace(flags, context=self.access.context)

    def poll(self) -> bool:
        """Look at all files. Return whether there is anything new to tell the core.

        A kubeconfig that cannot be used any more is reported, and the last one stays.
        """
        changed = self.access.credentials.poll()
        found = stamps(self._files)
        # What a kubeconfig names may be written after it: try until it works.
        if found == self._stamps and not self._failed:
            return changed
        self._stamps = found
        return self._reload() or changed

    def _reload(self) -> bool:
        old = self.access
        try:
            new = load(self._flags, self._env, clock=self._clock, previous=old)
            self._check(new)
        except AccessError as error:
            if str(error) != self._failed:  # once per trouble
                self._failed = str(error)
                extra = {"files": " ".join(self._files), "why": self._failed}
                logger.warning("kubeconfig not reloaded, keeping the last", extra=extra)
            return False
        self._failed = ""
        self.access = new
        if new == old:
            return False
        if new.credentials is not old.credentials:
            self._old.append(old)
        extra = {"context": new.context, "server": new.server.url}
        logger.info("kubeconfig reloaded", extra=extra)
        return True

    async def settle(self) -> None:
        """End what replaced credentials still run."""
        while self._old:
            await self._old.pop().credentials.close()

    async def close(self) -> None:
        """End everything that runs."""
        await self.settle()
        await self.access.credentials.close()


async def watch_files(
    current: Current,
    on_change: Callable[[Access], Awaitable[None]],
    *,
    interval_s: float = INTERVAL_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Poll for ever, and hand over the access whenever there is something new."""
    while True:
        await sleep(interval_s)
        if current.poll():
            await on_change(current.access)
        await current.settle()
