"""Settings of kubectl-proxy: kubectl's names and defaults, and what we add."""

import os
import stat
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from pyproxy.config import (
    Log,
    ModeConfig,
    Seconds,
    SecondsOrZero,
    Timeouts,
)
from pyproxy.config.duration import LONGEST_S
from pyproxy.http import filter as filters
from pyproxy.http.filter import Filter
from pyproxy.http.route import CONTEXTS, with_slash
from pyproxy.kube.config import ClientFlags, Server

MODE = "kubectl-proxy"
PORT = 8001

_NOBODYS_HOST = "pyproxy.invalid"  # that only a list for everybody accepts


class Keepalive(Seconds):
    """A time span of any sign: 0 = the default, below it = none, as in Go."""

    zero_allowed: ClassVar[bool] = True
    sign: ClassVar[str] = "-?"

    @classmethod
    def parse(cls, value: object) -> "Keepalive":
        """Read a value of a configuration file. Raise ValueError if it is not one."""
        negative = isinstance(value, str) and value.startswith("-")
        said = value.removeprefix("-") if isinstance(value, str) else value
        seconds = float(SecondsOrZero.parse(said))
        return cls(-seconds if negative else seconds)


class ProxyTimeouts(Timeouts, frozen=True, kw_only=True):
    """How long things may take; kubectl's, where it has a limit at all."""

    connect: Seconds = Seconds(30)  # per address of the apiserver that is tried
    tcp_idle: Seconds = Seconds(LONGEST_S)  # an exec session may be quiet for hours
    drain: SecondsOrZero = SecondsOrZero(1)  # watches never finish by themselves


class QuietLog(Log, frozen=True, kw_only=True):
    """What is said on stderr: as little as kubectl says."""

    level: Literal["debug", "info", "warning", "error"] = "warning"  # and worse


class KubectlProxy(ModeConfig, frozen=True, kw_only=True):
    """A local address in front of one apiserver, or of those of several contexts."""

    address: str = "127.0.0.1"  # IP to listen on; 0.0.0.0 = all
    port: Annotated[int, Meta(ge=0, le=65535)] = PORT  # 0 = any free one
    unix_socket: str = ""  # path to listen on instead of address and port
    api_prefix: str = "/"  # serve the API below this path
    www: str = ""  # directory of static files; empty = none
    www_prefix: str = "/static/"  # where to serve them
    www_listing: bool = False  # list directories that have no index.html
    # Host headers to accept; lists of regular expressions, split at every comma.
    accept_hosts: str = filters.ACCEPT_HOSTS
    accept_paths: str = filters.ACCEPT_PATHS  # likewise
    reject_paths: str = filters.REJECT_PATHS  # likewise
    reject_methods: str = filters.REJECT_METHODS  # likewise
    disable_filter: bool = False  # refuse nothing by host, path or method
    # Let pages of other origins change things and open WebSockets.
    allow_cross_site: bool = False
    append_server_path: bool = False  # put the server's path before each request's
    keepalive: Keepalive = Keepalive(0)  # first TCP probe; 0 = 30s, below 0 = none
    contexts: tuple[str, ...] = ()  # also served, below /contexts/NAME/; "*" = all
    access_log: bool = False  # log each exchange, without query and headers
    client: ClientFlags = ClientFlags()  # which apiserver, and as whom
    timeouts: ProxyTimeouts = ProxyTimeouts()  # how long things may take
    log: QuietLog = QuietLog()  # what is said on stderr

    def __post_init__(self) -> None:
        super().__post_init__()
        prefixes = {"apiPrefix": self.api_prefix or "/"}
        if self.www:
            prefixes["wwwPrefix"] = self.www_prefix
        if self.contexts:
            prefixes["contexts"] = CONTEXTS
        seen: dict[str, str] = {}
        for name, prefix in prefixes.items():
            if not prefix.startswith("/"):
                raise ValueError(f".{name}: {prefix!r} does not begin with a slash")
            other = seen.setdefault(with_slash(prefix), name)
            if other != name:
                raise ValueError(f".{name}: {prefix!r} is already the {other}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can dial us."""
        return bool(self.unix_socket) or self.address in (
            "localhost",
            "127.0.0.1",
            "::1",
            "[::1]",
        )

    def make_filter(self) -> Filter | None:
        """Return the filter, None if it is off. Raise PatternError."""
        if self.disable_filter:
            return None
        return Filter(
            self.accept_paths, self.reject_paths, self.accept_hosts, self.reject_methods
        )


def warnings(config: KubectlProxy, server: Server) -> Iterator[str]:
    """Yield what is possible and yet usually a mistake, in kubectl's words."""
    if server.path and not config.append_server_path:
        yield (
            f"Your kube context contains a server path {server.path}, use"
            " --append-server-path to automatically append the path to each request"
        )
    rules = config.make_filter()
    if rules is None:
        if not config.unix_socket:
            yield (
                "Request filter disabled, your proxy is vulnerable to XSRF attacks,"
                " please be cautious"
            )
    elif not config.reject_paths or not config.reject_methods:
        yield (
            "Request filter has been relaxed, your proxy may be vulnerable to attacks,"
            " please be cautious"
        )
    yield from _about_files(config.www)
    if not config.is_local:
        yield (
            f"ANYBODY WHO CAN REACH {config.address or '0.0.0.0'}:{config.port} ACTS AS"
            " YOU: the proxy asks for no credentials and adds yours"
        )
        if rules is None or rules.accepts_host(_NOBODYS_HOST):
            yield (
                "AND SO DOES EVERY WEB PAGE THAT A BROWSER BEHIND IT OPENS: each Host"
                " is accepted (--accept-hosts)"
            )


def _about_files(www: str) -> Iterator[str]:
    if not www:
        return
    try:
        mode = os.stat(www).st_mode
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield f"Failed to stat static file directory {www}: stat {www}: {why}"
        return
    if not stat.S_ISDIR(mode):
        yield f"Static file directory {www} is not a directory"
