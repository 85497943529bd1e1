"""One start and one stop for every mode.

Start: raise the descriptor limit, start the workers, take the signals, open the admin
address. Stop, in the order in which the world must learn of it: readiness red, after a
while if that is wanted no new connections, live ones finish or are reset at the
deadline, then everything in reverse.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Generic, TextIO, TypeVar

import uvloop

from pyproxy import logs
from pyproxy.activation import Sockets
from pyproxy.admin import Admin, Health, History, Reloads, Sources
from pyproxy.config import ModeConfig
from pyproxy.dataplane import Dataplane
from pyproxy.errors import PyproxyError, StartError
from pyproxy.handover import Predecessor
from pyproxy.notify import Notifier
from pyproxy.succession import Succession

if TYPE_CHECKING:
    from pyproxy.metrics import Collects

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=ModeConfig)
T = TypeVar("T")

DRAIN_LOOK_S = 0.05  # how often a drain looks whether the last relay has ended
IDLE_LOOKS = 2  # in a row, after which none is left
HANDSHAKE_S = 1.0  # more than a round trip, so that nobody is on the way to us
ADMIN_WAIT_S = 0.25  # for the mode to serve, before the admin address is answered
ADMIN_AGAIN_S = 5.0  # until an admin address that is taken is tried again
SAMPLE_S = 1.0  # how often counters are looked at for their peaks
BACKGROUND_PAUSE_S = 1.0  # before a background task that failed runs again
_RESTART_ONLY = ("workers", "admin_address", "handover_socket", "ready_file")


def launch(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class Runtime(Generic[C]):
    """The life of one mode in one process."""

    def __init__(
        self,
        mode: str,
        config: C,
        load: Callable[[], C],
        sockets: Sockets | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        """Take the configuration in use, and how to read it anew for a reload.

        `sockets` are used where a vip has their address; `started` closes them, and
        what the predecessor gave.
        """
        self.mode = mode
        self.config = config
        self.health = Health()
        self.history = History()
        self.reloads = Reloads()
        self.collectors: list[Collects] = [self.reloads]
        self.exit_code = 0
        self.sockets = sockets or Sockets()
        # Called when a successor serves: from then on it answers in our place.
        self.on_superseded: list[Callable[[], Awaitable[None]]] = []
        self.is_superseded = False
        self.needs_admin = True  # False: without its address we go on, and try again
        self._load = load
        self._dataplane: Dataplane | None = None
        self._notifier = Notifier()
        self._succession = Succession(config, self.sockets, predecessor, self._notifier)
        self._on_reload: Callable[[C], Awaitable[None]] | None = None
        self._reload_wanted = asyncio.Event()
        self._serving = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._told = asyncio.Event()  # by a signal, that a successor does not need us
        self._starting: asyncio.Task[object] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.health.require("start", lambda: "not serving yet")
        self.health.mention("reload", self.reloads.trouble)

    @property
    def dataplane(self) -> Dataplane:
        """The core; there is one only inside of `started`."""
        assert self._dataplane is not None
        return self._dataplane

    @contextlib.asynccontextmanager
    async def started(self, sources: Sources) -> AsyncIterator[None]:
        """Own workers, signals and admin address for the time of the body."""
        _raise_descriptor_limit()
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self.history.recording())
            stack.callback(self._take_signals())
            stack.callback(self._succession.close)
            self._dataplane = self._succession.open_dataplane(self.config.workers)
            stack.callback(self._dataplane.close)
            admin = Admin(sources, self.listen)
            stack.push_async_callback(admin.close)
            self.on_superseded.append(admin.close)
            if self.config.admin_address:
                answering = asyncio.create_task(
                    self._answer(admin, await self._bind(admin)), name="admin"
                )
                stack.push_async_callback(_end, answering)
            stack.push_async_callback(self._end_background)
            if self._notifier.watchdog_s:
                self.background("watchdog", self._feed_watchdog)
            self.background("reload", self._reload_when_asked)
            if self.config.admin_address:
                self.background("peaks", self._sample)
            try:
                yield
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._stopping.is_set() or task is None:
                    raise
                task.uncancel()  # it was us
                logger.info("stopped before serving")

    @property
    def has_predecessor(self) -> bool:
        """Whether another process serves until we do."""
        return self._succession.has_predecessor

    def reload(self) -> None:
        """Read the configuration anew, as after SIGHUP."""
        self._reload_wanted.set()

    def listen(self, host: str, port: int) -> list[socket.socket]:
        """Return sockets at an IP for something in Python to answer on; it owns them.

        Raise OSError.
        """
        return self._succession.listen(host, port)

    async def _bind(self, admin: Admin) -> bool:
        """Open the admin address; False = later, because somebody has it."""
        try:
            await admin.bind(self.config.admin_address)
        except StartError as error:
            if self.needs_admin:
                raise
            logger.error("admin address not open", extra={"why": str(error)})
            return False
        return True

    async def serve(self, addresses: list[str], out: TextIO | None = None) -> None:
        """Say where we listen, on stdout or `out`; return when it is time to drain."""
        for address in addresses:
            _say(f"Starting to serve on {address}", out or sys.stdout)
        self._starting = None
        self._serving.set()
        self.health.drop("start")
        self._notifier.say("READY=1", f"STATUS=serving on {', '.join(addresses)}")
        async with self._succession.serving(self._let_go):
            await self._stopping.wait()

    def _let_go(self) -> None:
        logger.info("a successor serves, ending")
        self.is_superseded = True
        self._stopping.set()

    async def drain(self) -> None:
        """Go red, stop listening, then wait for live relays up to the deadline."""
        self.health.require("shutdown", lambda: "draining")
        self._notifier.say("STOPPING=1", "STATUS=draining")
        if self.is_superseded:
            for hand_over in self.on_superseded:
                await hand_over()
            # Where rules lead new clients to the successor, to sockets of its own, some
            # are half way through their handshake with ours: closed, it resets them.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), HANDSHAKE_S)
        else:
            await self._go_on_accepting(float(self.config.timeouts.shutdown_delay))
            self._succession.keep()
        self.dataplane.drain()
        self._succession.close()  # unless others hold them, clients are refused
        timeout_s = float(self.config.timeouts.drain)
        live = self.dataplane.live  # relays, and flows of UDP, which end by their time
        logger.info("draining", extra={"relays": live, "timeout_s": timeout_s})
        end = asyncio.get_running_loop().time() + timeout_s
        # Twice: a client that waited at a listener, and is on its way from one worker
        # to another, is no relay yet.
        idle_looks = 0
        while idle_looks < IDLE_LOOKS and not self._hurry.is_set():
            if asyncio.get_running_loop().time() >= end:
                break
            idle_looks = idle_looks + 1 if self.dataplane.is_idle else 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), DRAIN_LOOK_S)
        left = self.dataplane.live
        if left:
            logger.warning("drain ended by force", extra={"relays_reset": left})
            self.dataplane.reset()
        else:
            logger.info("drained")
        if self.is_superseded and self.config.ready_file:
            logger.info("waiting to be ended")
            await self._told.wait()

    async def _go_on_accepting(self, delay_s: float) -> None:
        """Let others find out that we are not ready; a second signal cuts it short.

        Source: kube-apiserver, --shutdown-delay-duration.
        """
        if delay_s > 0:
            logger.info("still accepting", extra={"delay_s": delay_s})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay_s)

    def stop(self) -> None:
        """End as after a signal."""
        self._stopping.set()

    def on_reload(self, handler: Callable[[C], Awaitable[None]]) -> None:
        """Call `handler` with each new configuration; what it raises refuses it."""
        self._on_reload = handler

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` again and again until the stop; log when it fails."""
        task = asyncio.create_task(_again_and_again(name, work), name=name)
        self._tasks.add(task)

    async def _answer(self, admin: Admin, is_bound: bool) -> None:
        """Answer at the admin address, but let clients of the mode come first.

        A predecessor answers there until we serve.
        """
        wait_s = None if self._succession.has_predecessor else ADMIN_WAIT_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._serving.wait(), wait_s)
        while not is_bound:
            await asyncio.sleep(ADMIN_AGAIN_S)
            with contextlib.suppress(StartError):
                await admin.bind(self.config.admin_address)
                is_bound = True
        try:
            await admin.serve()
        except Exception:
            logger.exception("admin address not answered", extra={"bug": True})

    async def _end_background(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _take_signals(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)

        def give_back() -> None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

        return give_back

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if self._hurry.is_set():
            os._exit(128 + number)  # the orderly end hangs, too
        if self.is_superseded and not self._told.is_set():
            self._told.set()
            return
        if self._stopping.is_set():
            self.exit_code = 128 + number
            self._hurry.set()
            return
        logger.info("stopping", extra={"signal": number.name})
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()

    async def _sample(self) -> None:
        self.history.sample(self.dataplane.totals())
        await asyncio.sleep(SAMPLE_S)

    async def _feed_watchdog(self) -> None:
        self._notifier.say("WATCHDOG=1")
        await asyncio.sleep(self._notifier.watchdog_s)

    async def _reload_when_asked(self) -> None:
        await self._reload_wanted.wait()
        self._reload_wanted.clear()
        if self._on_reload is None or self._stopping.is_set():
            return
        self._notifier.say_reloading()
        try:
            await self._reload(self._on_reload)
        finally:
            self._notifier.say("READY=1")

    async def _reload(self, handler: Callable[[C], Awaitable[None]]) -> None:
        try:
            config = self._load()
            await handler(config)
        except PyproxyError as error:
            self.reloads.failed(str(error))
            logger.error("reload refused, nothing changed", extra={"why": str(error)})
            return
        except Exception:
            self.reloads.failed("a bug; the log has it")
            raise
        self.reloads.succeeded()
        for name in _RESTART_ONLY:
            if getattr(config, name) != getattr(self.config, name):
                logger.warning("change needs a restart", extra={"setting": name})
        logs.setup(config.log.level, config.log.format)
        self.config = config
        logger.info("configuration reloaded")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _again_and_again(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background task failed", extra={"task": name})
            await asyncio.sleep(BACKGROUND_PAUSE_S)


def _raise_descriptor_limit() -> None:
    """A relay takes two descriptors, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(line: str, out: TextIO) -> None:
    # The reader of our first lines may have closed the pipe since.
    with contextlib.suppress(OSError):
        out.write(f"{line}\n")
        out.flush()
