"""Containers of the built-in pods: which one is meant, and what it has logged."""

import asyncio
import collections
import datetime
from collections.abc import AsyncIterator, Mapping

from pyproxy.sandbox.apiserver.kinds import resource
from pyproxy.sandbox.apiserver.refusal import bad_request, not_found
from pyproxy.sandbox.apiserver.route import is_true
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.store import Key, Store

KEPT_LINES = 10_000
_STAMP = "%Y-%m-%dT%H:%M:%S.%f000Z"

Line = tuple[datetime.datetime, str]


class Log:
    """What a container has written."""

    def __init__(self) -> None:
        self._lines: collections.deque[Line] = collections.deque(maxlen=KEPT_LINES)
        self._count = 0  # of all lines ever
        self._has_ended = False
        self._news = asyncio.Event()

    def write(self, text: str) -> None:
        """Add a line."""
        self._lines.append((datetime.datetime.now(datetime.UTC), text))
        self._count += 1
        self._tell()

    def end(self) -> None:
        """Say that nothing will follow."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield the lines that are asked for; with `follow`, also those to come."""
        shows_time = is_true(query, "timestamps")
        found = list(self._lines)
        if seconds := query.get("sinceSeconds"):
            age = datetime.timedelta(seconds=int(seconds))
            start = datetime.datetime.now(datetime.UTC) - age
            found = [line for line in found if line[0] >= start]
        if "tailLines" in query:
            found = found[-int(query["tailLines"]) :] if int(query["tailLines"]) else []
        sent = self._count
        for line in found:
            yield _shown(line, shows_time)
        while is_true(query, "follow"):
            # What was dropped unread is lost, as in a file that was rotated.
            fresh = min(self._count - sent, len(self._lines))
            sent = self._count
            for line in list(self._lines)[len(self._lines) - fresh :]:
                yield _shown(line, shows_time)
            if sent == self._count:
                if self._has_ended:
                    return
                await self._news.wait()


def _shown(line: Line, shows_time: bool) -> bytes:
    stamp = f"{line[0].strftime(_STAMP)} " if shows_time else ""
    return f"{stamp}{line[1]}\n".encode()


class Logs:
    """The logs of all containers, by pod."""

    def __init__(self) -> None:
        self._logs: dict[Key, dict[str, Log]] = {}

    def of(self, key: Key, container: str) -> Log:
        """Return the log of one."""
        return self._logs.setdefault(key, {}).setdefault(container, Log())

    def end(self, key: Key) -> None:
        """Forget a pod that is gone."""
        for log in self._logs.pop(key, {}).values():
            log.end()


def container(
    store: Store, key: Key, query: Mapping[str, str]
) -> tuple[Object, Object]:
    """Return the pod and its container that a request is about.

    Raises:
        Refusal: there is no such pod or container.
    """
    pod = store.get(resource("pods"), key)
    if pod is None:
        raise not_found("pods", "", key[1])
    containers, name = pod["spec"]["containers"], query.get("container", "")
    if not name and len(containers) > 1:
        names = " ".join(c["name"] for c in containers)
        what = f"a container name must be specified for pod {key[1]}, choose one of:"
        raise bad_request(f"{what} [{names}]")
    found = [c for c in containers if name in ("", c["name"])]
    if not found:
        raise bad_request(f"container {name} is not valid for pod {key[1]}")
    return pod, found[0]


def check_running(pod: Object, container: Object) -> None:
    """Raise a Refusal unless commands can be run in a container."""
    name = pod["metadata"]["name"]
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {name} does not have a host assigned")
    if pod["status"].get("phase") != "Running":
        what = f'container "{container["name"]}" in pod "{name}" is not available'
        raise bad_request(what)


def environment(pod: Object, container: Object) -> dict[str, str]:
    """What a command in a container finds in its environment."""
    found = {"HOSTNAME": pod["metadata"]["name"], "HOME": "/root"}
    found["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    return found | {e["name"]: e.get("value", "") for e in container.get("env", [])}
