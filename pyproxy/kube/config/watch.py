"""The access in use, renewed when a file behind it changes.

Files are looked at every few seconds: stat(2) sees every way in which files are
replaced, on every file system. The context that was chosen at the start stays chosen:
`kubectl config use-context` in another window must not turn a running proxy to another
cluster.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping

import msgspec

from pyproxy.kube.config.access import Access, load
from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.errors import AccessError
from pyproxy.kube.config.flags import ClientFlags
from pyproxy.kube.config.kubeconfig import candidates, load_files
from pyproxy.stamp import stamps

logger = logging.getLogger(__name__)


class Kubeconfigs:
    """The files of a kubeconfig, looked at and read once for all contexts in them.

    What cannot be read is reported, and what was read before it stays.
    """

    def __init__(self, explicit: str, env: Mapping[str, str] = os.environ) -> None:
        """Read them. Raise AccessError."""
        self._explicit, self._env = explicit, env
        self._failed = ""
        self.names = candidates(explicit, env)
        self._stamps = stamps(self.names)
        self.loaded = load_files(explicit, env)
        self.version = 0

    def poll(self) -> None:
        """Read them again if they changed; then `version` is another one."""
        found = stamps(self.names)
        if found == self._stamps:
            return
        self._stamps = found
        try:
            self.loaded = load_files(self._explicit, self._env)
        except AccessError as error:
            if str(error) != self._failed:  # once per trouble
                self._failed = str(error)
                _say_kept(self.names, self._failed)
            return
        self._failed = ""
        self.version += 1


def _say_kept(files: Iterable[str], why: str) -> None:
    extra = {"files": " ".join(files), "why": why}
    logger.warning("kubeconfig not reloaded, keeping the last", extra=extra)


class Current:
    """The access that some flags lead to, as of the last `poll`."""

    def __init__(
        self,
        flags: ClientFlags,
        env: Mapping[str, str] = os.environ,
        *,
        clock: Clock | None = None,
        check: Callable[[Access], None] = lambda _: None,
        files: Kubeconfigs | None = None,
    ) -> None:
        """Load it. Raise AccessError, as `check` does of what is of no use to us.

        A caller that shares `files` with others polls them.
        """
        self._env = env
        self._clock = clock or Clock()
        self._check = check
        self._old: list[Access] = []
        self._failed = ""
        self._shares = files is not None
        self._files = files or Kubeconfigs(flags.kubeconfig, env)
        self._version = self._files.version
        self.access = self._load(flags)
        self._flags = msgspec.structs.replace(flags, context=self.access.context)

    def poll(self) -> bool:
        """Look at all files. Return whether there is anything new to tell the core.

        A kubeconfig that cannot be used any more is reported, and the last one stays.
        """
        changed = self.access.credentials.poll()
        if not self._shares:
            self._files.poll()
        # What a kubeconfig names may be written after it: try until it works.
        if self._files.version == self._version and not self._failed:
            return changed
        self._version = self._files.version
        return self._reload() or changed

    def _load(self, flags: ClientFlags, previous: Access | None = None) -> Access:
        access = load(
            flags,
            self._env,
            clock=self._clock,
            previous=previous,
            loaded=self._files.loaded,
        )
        self._check(access)
        return access

    def _reload(self) -> bool:
        old = self.access
        try:
            new = self._load(self._flags, old)
        except AccessError as error:
            if str(error) != self._failed:  # once per trouble
                self._failed = str(error)
                _say_kept(self._files.names, self._failed)
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
