"""Brings what the table of Services says into force: in the core, and in capture.

In an order in which no client meets an address half made: fronts that turn clients away
first, then the core, then fronts that let clients in. What the core refuses is found by
halving, until the Services are known whose fault it is; all others are served. Where
capture fails, or so many Services that it is hardly their fault, nothing more is tried,
and everything waits for the next attempt.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from pyproxy.capture import Capture, Fronts
from pyproxy.dataplane import Change, Dataplane
from pyproxy.errors import ConfigError, PyproxyError
from pyproxy.model import Vip, VipKey
from pyproxy.modes.kube_proxy.config import KubeProxy
from pyproxy.modes.kube_proxy.parts import Delta, Table
from pyproxy.modes.kube_proxy.pending import Pending, halves, joined
from pyproxy.modes.kube_proxy.shortcuts import Shortcuts

logger = logging.getLogger(__name__)

OnFailed = Callable[[str, str], None]  # key of a Service, why
OnDelta = Callable[[Delta], None]


MOST_REFUSED = 50  # Services in one attempt, before the rest is left for the next one


class _GivenUpError(Exception):
    """Capture failed, or too many Services: the reason is its cause."""


class Programmer:
    """What is in force, what is not yet, and what cannot be."""

    def __init__(
        self,
        table: Table,
        capture: Capture,
        dataplane: Callable[[], Dataplane],
        on_failed: OnFailed,
        on_delta: OnDelta = lambda delta: None,
        shortcuts: Shortcuts | None = None,
    ) -> None:
        """`on_failed` learns of Services that the core refuses, once for each reason.

        `on_delta` is told what else a delta says, after it came into force.
        """
        self.table = table
        self.capture = capture
        self.shortcuts = shortcuts or Shortcuts(None, KubeProxy())
        self._dataplane = dataplane
        self._on_failed, self._on_delta = on_failed, on_delta
        self._owners: dict[VipKey, str] = {}  # of vips in force
        self._pools: set[str] = set()  # in force
        self._fronts: set[VipKey] = set()
        self._cluster_ips: set[str] = set()
        self._left = Pending()  # what capture kept from being in force
        self._failed: dict[str, tuple[Pending, str]] = {}  # by Service
        self._is_anew = False  # what the next delta does not name is to go
        self._refused = 0  # Services, in this attempt
        self.trouble = ""  # of capture, or of nearly all Services

    @property
    def failed(self) -> Mapping[str, str]:
        """Services that the core refuses, with the reason."""
        return {key: why for key, (_, why) in self._failed.items()}

    @property
    def vips(self) -> Collection[VipKey]:
        """Those in force."""
        return self._owners.keys()

    def owner(self, vip: VipKey) -> str:
        """Return the key of the Service of a vip in force, else ""."""
        return self._owners.get(vip, "")

    def of(self, key: str) -> Iterator[VipKey]:
        """Yield the vips of a Service that are in force."""
        return (vip for vip, owner in self._owners.items() if owner == key)

    def restart(self, table: Table, config: KubeProxy) -> None:
        """Go on with another table of the same Services, all of them marked."""
        self.table, self._is_anew = table, True
        self.shortcuts.restart(config)
        table.mark_all()

    def verify(self) -> list[str]:
        """Repair what others changed, and say what it was. Raise PyproxyError."""
        return [*self.capture.verify(), *self.shortcuts.verify()]

    def close(self, *, leave: bool) -> None:
        """Remove everything; with `leave` it goes on for a successor."""
        self.shortcuts.close(leave=leave)
        self.capture.close(leave=leave)

    def sync(self, *, again: bool = False) -> bool:
        """Bring everything into force; False = it has to be tried again.

        `again` tries what was refused before, too.
        """
        delta = self.table.take()
        work = joined([self._left, Pending.of(delta)])
        if self._is_anew:
            self._is_anew = False
            self._name_what_is_gone(work)
        self._left, self._refused = Pending(), 0
        retried = self._retried(work, again=again)
        work = joined([*(self._failed[key][0] for key in retried), work])
        is_done = work.is_empty or self._try(work, retried)
        self.shortcuts.note_options(delta.options)
        is_done &= self.shortcuts.flush()
        self._on_delta(delta)
        return is_done

    def _retried(self, work: Pending, *, again: bool) -> list[str]:
        """Return Services that were refused: of some there are news, or `again` all."""
        if again or not self._failed:
            return list(self._failed)
        touched = work.split(self._owners)
        return [key for key in self._failed if key in touched]

    def _name_what_is_gone(self, work: Pending) -> None:
        for key in self._owners:
            work.vips.setdefault(key, None)
        for name in self._pools:
            work.pools.setdefault(name, None)
        for key in self._fronts:
            work.fronts.setdefault(key, None)
        for each in self._cluster_ips:
            work.cluster_ips.setdefault(each, False)

    def _try(self, work: Pending, retried: Sequence[str]) -> bool:
        self._leave_out(work)
        try:
            self._ask(work.shared())
            try:
                self._publish(work)
            except PyproxyError:
                self._publish_parts(work.split(self._owners))
            else:
                for key in retried:
                    del self._failed[key]
        except _GivenUpError as error:
            self._left = work
            self._note_trouble(str(error.__cause__))
            return False
        self._note_trouble("")
        return True

    def _leave_out(self, work: Pending) -> None:
        """Take out vips whose clients cannot come to the core."""
        for key, vip in work.vips.items():
            if vip is not None and not self.capture.takes(vip):
                work.vips[key] = None
                work.fronts.pop(key, None)
        named = {name for vip in work.vips.values() if vip for name in pools_of(vip)}
        for name in work.pools.keys() - named - self._pools:
            work.pools[name] = None  # of those vips alone

    def _publish_parts(self, parts: Mapping[str, Pending]) -> None:
        keys = list(parts)
        try:
            self._publish(joined(parts.values()))
        except PyproxyError as error:
            if len(keys) == 1:
                self._fail(keys[0], parts[keys[0]], error)
                return
            for half in halves(keys):
                self._publish_parts({key: parts[key] for key in half})
        else:
            for key in keys:
                self._failed.pop(key, None)

    def _fail(self, key: str, part: Pending, why: PyproxyError) -> None:
        self._refused += 1
        if self._refused > MOST_REFUSED:
            raise _GivenUpError from why
        _, before = self._failed.get(key, (None, ""))
        self._failed[key] = part, str(why)
        if str(why) != before:
            extra = {"service": key, "why": str(why)}
            logger.error("service not served", extra=extra)
            self._on_failed(key, str(why))

    def _publish(self, work: Pending) -> None:
        """Raise PyproxyError if the core refuses it: then the core is as before."""
        self._ask(work.closing())
        change = self._to_core(work)
        self.shortcuts.note(change, work.fronts)
        self._ask(work.opening())

    def prepare(self) -> None:
        """Put vips into the core alone, before clients are led to it by a take-over.

        Rules of a predecessor lead to us at once: who came to a core without vips was
        reset. The first `sync` does the rest; all of it again, if the core refuses it.
        """
        delta = self.table.take()
        self._left = Pending.of(delta)
        self.shortcuts.note_options(delta.options)
        self._on_delta(delta)
        work = joined([self._left])
        self._leave_out(work)
        with contextlib.suppress(PyproxyError):  # `sync` finds whose fault it is
            self.shortcuts.note(self._to_core(work), work.fronts)
            self._left = replace(work, vips={}, pools={})

    def _to_core(self, work: Pending) -> Change:
        """Raise PyproxyError."""
        change = work.change(self._owners, self._pools)
        if change.vips or change.pools or change.remove_vips or change.remove_pools:
            self._dataplane().update(change)
        for key in change.remove_vips:
            del self._owners[key]
        for vip in change.vips:
            self._owners[vip.key] = vip.pool.name.partition(":")[0]
        self._pools.difference_update(change.remove_pools)
        self._pools.update(pool.name for pool in change.pools)
        return change

    def _ask(self, change: Fronts) -> None:
        if change.is_empty:
            return
        try:
            self.capture.update(change)
        except PyproxyError as error:
            raise _GivenUpError from error
        except ValueError as error:  # a front that cannot be: some Service's fault
            raise ConfigError(str(error)) from error
        self._fronts.difference_update(change.remove)
        self._fronts.update(front.key for front in change.put)
        self._cluster_ips.difference_update(change.remove_cluster_ips)
        self._cluster_ips.update(change.cluster_ips)

    def _note_trouble(self, why: str) -> None:
        if why and why != self.trouble:
            logger.error("rules not changed", extra={"why": why})
        elif self.trouble and not why:
            logger.info("rules changed again")
        self.trouble = why


def pools_of(vip: Vip) -> list[str]:
    """Return the names of the pools that a vip names."""
    near = [vip.near_pool.name] if vip.near_pool is not None else []
    return [vip.pool.name, *near]


def timed(work: Callable[[], bool], note: Callable[[float], None]) -> bool:
    """Do it, and tell `note` how long it took if it came to its end."""
    began = time.perf_counter()
    is_done = work()
    if is_done:
        note(time.perf_counter() - began)
    return is_done
