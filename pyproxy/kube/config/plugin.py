"""Credentials from a program: run when there are none, when they expired or failed.

One run at a time, at most one a second; all tasks that wait share its outcome. What it
gave is kept until it expires; without an expiry, until the apiserver rejects it.
"""

import asyncio
import logging
import os
import shutil
from collections import deque
from collections.abc import Mapping

from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.credentials import Identity
from pyproxy.kube.config.errors import CredentialsError, neutral
from pyproxy.kube.config.execinfo import Credential, exec_info, read_answer
from pyproxy.kube.config.kubeconfig import Cluster, Exec
from pyproxy.kube.config.kuberc import PluginPolicy
from pyproxy.kube.config.pause import Pause
from pyproxy.kube.config.spawn import run

logger = logging.getLogger(__name__)

TIMEOUT_S = 200.0  # a hang; logins in a browser give up after 180 s themselves
INTERACTIVE_TIMEOUT_S = 600.0  # somebody types
HINTS, HINTS_PERIOD_S = 10, 3600.0  # how often to explain what is not installed
FOREVER_S = float("inf")
ANY = PluginPolicy()

NOT_INSTALLED = """

It looks like you are trying to use a client-go credential plugin that is not installed.

To learn more about this feature, consult the documentation available at:
      https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins"""


def has_terminal() -> bool:
    """Whether somebody may be asked."""
    try:
        return os.isatty(0)
    except OSError:
        return False


class Plugin:
    """The credentials that a program prints."""

    refreshable = True

    def __init__(
        self,
        spec: Exec,
        cluster: Cluster,
        authority: bytes,
        env: Mapping[str, str],
        clock: Clock,
        policy: PluginPolicy = ANY,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._spec = spec
        self._policy = policy
        self._timeout_s = timeout_s
        self._command = os.path.normpath(spec.command)
        self._cluster = cluster if spec.provide_cluster_info else None
        self._authority = authority
        self._env = {**env, **{each.name: each.value for each in spec.env}}
        self._path = env.get("PATH", os.defpath)
        self._clock = clock
        self._credential: Credential | None = None
        self._rejected = False
        self._pause = Pause(clock)
        self._running: asyncio.Task[None] | None = None
        self._hints: deque[float] = deque(maxlen=HINTS)

    @property
    def identity(self) -> Identity:
        """What the last run gave."""
        return self._credential.identity if self._credential else Identity()

    async def refresh(self) -> None:
        """Run the program unless what it gave is still good. Raise CredentialsError."""
        if self._running is None:
            if self._is_good() or self._pause.holds():
                return
            self._running = asyncio.create_task(self._refresh())
            self._running.add_done_callback(self._ended)
        # The task that asked may be cancelled; the run goes on for the others.
        await asyncio.shield(self._running)

    def fresh_for_s(self) -> float:
        """Return for how long the last answer holds."""
        if self._credential is None:
            return 0.0
        left_s = 0.0
        if not self._rejected:
            expires_at = self._credential.expires_at
            left_s = (
                FOREVER_S if expires_at is None else expires_at - self._clock.wall()
            )
        return max(left_s, self._pause.serves_s())

    def reject(self) -> bool:
        """Run again when asked next; return whether that may help."""
        # Rejections this soon after a run are about what was before it.
        if self._running is None and not self._pause.left_s():
            self._rejected = True
        return True

    def poll(self) -> None:
        """Nothing to look at."""

    async def close(self) -> None:
        """End a run."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _is_good(self) -> bool:
        return not self._rejected and not self._is_expired()

    def _is_expired(self) -> bool:
        if self._credential is None:
            return True
        expires_at = self._credential.expires_at
        return expires_at is not None and self._clock.wall() > expires_at

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not log it if no task waited

    async def _refresh(self) -> None:
        began = self._clock.monotonic()
        try:
            credential = await self._run()
        except CredentialsError as error:
            extra = {"command": self._spec.command, "why": str(error)}
            if not self._rejected or self._is_expired():
                self._pause.begin(error.why)
                raise
            self._pause.begin()
            # The apiserver's 401 says more than our failure to become somebody else.
            logger.warning("credentials not renewed after a 401", extra=extra)
            return
        self._pause.begin()
        self._credential, self._rejected = credential, False
        took_ms = round((self._clock.monotonic() - began) * 1000)
        logger.info(
            "credential plugin ran",
            extra={"command": self._spec.command, "took_ms": took_ms},
        )

    async def _run(self) -> Credential:
        interactive = self._is_interactive()
        timeout_s = INTERACTIVE_TIMEOUT_S if interactive else self._timeout_s
        version, command = self._spec.api_version, self._command
        argv = [self._program(), *self._spec.args]
        info = exec_info(
            version, self._cluster, self._authority, interactive=interactive
        )
        env = {**self._env, "KUBERNETES_EXEC_INFO": info}
        try:
            code, output = await run(
                argv, env, interactive=interactive, timeout_s=timeout_s
            )
        except TimeoutError:
            why = f"exec: executable {command} did not finish within {timeout_s:g} s"
            raise CredentialsError(why) from None
        except OSError as error:
            why = f"exec: {command}: {(error.strerror or str(error)).lower()}"
            raise CredentialsError(why) from None
        except ValueError as error:
            raise CredentialsError(f"exec: executable {command} {error}") from None
        if code:
            outcome = f"failed with exit code {code}"
            if code < 0:
                outcome = f"was killed by signal {-code}"
            raise CredentialsError(f"exec: executable {command} {outcome}")
        try:
            return read_answer(output, version)
        except ValueError as error:
            raise CredentialsError(str(error)) from None

    def _program(self) -> str:
        """Return where the program is. Raise CredentialsError."""
        found = shutil.which(self._command, path=self._path)
        # PATH may hold a dot; a program of the current directory is not run for that.
        if found and ("/" in self._command or os.path.isabs(found)):
            self._policy.check(self._command, found, self._path)
            return found
        if "/" in self._command and os.path.exists(self._command):
            raise CredentialsError(f"exec: {self._command}: permission denied")
        why = f"exec: executable {self._command} not found{self._hint()}"
        raise CredentialsError(why)

    def _is_interactive(self) -> bool:
        terminal = has_terminal()
        if self._spec.interactive_mode == "Always" and not terminal:
            raise CredentialsError(
                "exec plugin cannot support interactive mode: standard input is not a"
                " terminal"
            )
        return terminal and self._spec.interactive_mode != "Never"

    def _hint(self) -> str:
        """Return what helps, unless it was said often enough of late."""
        now = self._clock.monotonic()
        if len(self._hints) == HINTS and now - self._hints[0] < HINTS_PERIOD_S:
            return ""
        self._hints.append(now)
        hint = self._spec.install_hint
        return NOT_INSTALLED + (f"\n\n{neutral(hint)}" if hint else "")
