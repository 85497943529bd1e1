"""The parts that several modes' configurations are made of."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from pyproxy.config.address import Address, parse_address, parse_network
from pyproxy.config.base import Config
from pyproxy.config.duration import Seconds, SecondsOrZero
from pyproxy.model import Balance, OnAllDown, RingKey

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Runs = Annotated[int, Meta(ge=1, le=100)]
Code = Annotated[int, Meta(ge=100, le=599)]
CheckType = Literal["https", "http", "tcp"]


class Log(Config, frozen=True, kw_only=True):
    """What is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"  # and what is worse
    format: Literal["text", "json"] = "text"  # lines for people, or JSON objects


class Timeouts(Config, frozen=True, kw_only=True):
    """How long things may take."""

    connect: Seconds = Seconds(5)  # per server tried, not per connection
    tcp_idle: Seconds = Seconds(3600)  # no byte either way; watches are quiet for long
    drain: SecondsOrZero = SecondsOrZero(30)  # live relays are reset after this
    # How long to go on accepting once /readyz is red: for balancers that ask rarely.
    shutdown_delay: SecondsOrZero = SecondsOrZero(0)
    # How long a server that came back gets fewer clients than the others; 0 = off.
    slow_start: SecondsOrZero = SecondsOrZero(30)


class Limits(Config, frozen=True, kw_only=True):
    """Of one listener; 0 = no limit. What goes beyond is reset, and counted."""

    max_connections: Count = 0  # open at a time
    max_connections_per_source: Count = 0  # of one client address
    max_new_per_second: Count = 0  # accepted
    max_new_per_second_per_source: Count = 0  # of one client address


class Check(Config, frozen=True, kw_only=True):
    """How to learn whether a server is ready, alive, or dead.

    The defaults notice a refused server within 2.2 s and a hung one within 4 s: below
    the 30 s in which a shutting-down apiserver must be out of rotation. New connections
    avoid a hung one before, within 2 s, while another server is ready.
    """

    type: CheckType = "https"  # tcp takes a hung server for a ready one
    path: str = "/readyz"  # not /healthz, which fails only when it is too late to drain
    # HTTP status codes that mean ready; any other answer means alive.
    expect: Annotated[tuple[Code, ...], Meta(min_length=1)] = (200,)
    ca: str | None = None  # PEM file: CAs for the server's certificate
    pins: tuple[str, ...] = ()  # SHA-256 of the server's certificate (DER), hexadecimal
    insecure: bool = False  # believe any certificate
    server_name: str | None = None  # SNI and the name to verify; default: the host
    client_certificate: str | None = None  # PEM file: our client certificate
    client_key: str | None = None  # PEM file: its key
    token_file: str | None = None  # bearer token; read again at each probe
    interval: Seconds = Seconds(1)  # between probes of a server that is as before
    fast_interval: Seconds = Seconds(0.5)  # while the results disagree with the state
    down_interval: Seconds = Seconds(2)  # between probes of a dead server
    timeout: Seconds = Seconds(2)  # for all of one probe
    # Without an answer for so long, a server is suspect: others take new connections.
    suspect_after: Seconds = Seconds(0.75)
    jitter: Annotated[float, Meta(ge=0, le=0.5)] = 0.1  # part of the interval
    rise: Runs = 2  # good probes in a row until a server is ready
    fall: Runs = 3  # bad probes in a row until it is not

    def __post_init__(self) -> None:
        for pin in self.pins:
            parse_pin(pin)
        if not self.path.startswith("/") or not _is_visible(self.path):
            raise ValueError(f".path: {self.path!r} is not a path such as /readyz")
        if self.server_name is not None and not _is_visible(self.server_name):
            raise ValueError(f".serverName: {self.server_name!r} is not a host name")
        if self.type != "https":
            self._refuse_tls_settings()
        elif not self.insecure and not self.pins and self.ca is None:
            raise ValueError(
                "an https check needs something to trust: give a CA file (ca,"
                " --check-ca), a certificate fingerprint (pins, --check-pin), or"
                " accept any certificate (insecure: true, --check-insecure)"
            )
        elif self.insecure and (self.pins or self.ca is not None):
            raise ValueError("insecure contradicts ca and pins: choose one")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("clientCertificate and clientKey go together")
        if self.token_file is not None and self.insecure:
            raise ValueError("insecure with tokenFile would give the token to anybody")

    def _refuse_tls_settings(self) -> None:
        for name, value in (
            ("ca", self.ca),
            ("pins", self.pins),
            ("insecure", self.insecure),
            ("serverName", self.server_name),
            ("clientCertificate", self.client_certificate),
            ("clientKey", self.client_key),
            ("tokenFile", self.token_file),
        ):
            if value:
                raise ValueError(f".{name}: is for https, this check is {self.type}")

    @property
    def worst_detection_s(self) -> float:
        """Longest time from a server's hanging to its being seen as dead.

        A probe had just been good. The next one gets company each half `suspect_after`,
        until `fall` wait; each waits for its timeout, if that is longer.
        """
        wait = self.interval * (1 + self.jitter)
        step = self.suspect_after / 2
        if self.timeout > step * (self.fall - 1):
            return wait + step * (self.fall - 1) + self.timeout
        return wait + self.fall * (
            self.timeout + self.fast_interval * (1 + self.jitter)
        )


class Server(Config, frozen=True, kw_only=True):
    """One `HOST:PORT`; a name stands for every address that it resolves to."""

    short_form: ClassVar[str] = "address"

    address: str  # HOST:PORT, IPv6 in brackets
    # Its share of new clients; 0 = none.
    weight: Annotated[int, Meta(ge=0, le=1000)] = 1
    tier: Annotated[int, Meta(ge=0, le=7)] = 0  # the lowest that is up serves

    def __post_init__(self) -> None:
        host = _parse(self.address).host
        if host in ("0.0.0.0", "::"):
            raise ValueError(f".address: {self.address} is not one server")


class Pool(Config, frozen=True, kw_only=True):
    """Servers that can stand in for each other, and how to choose among them."""

    name: Annotated[str, Meta(min_length=1, max_length=63)] = "default"  # for listeners
    servers: tuple[Server, ...]  # each a mapping, or HOST:PORT alone
    balance: Balance = "least"  # ring: one client address means one server
    ring_key: RingKey = "source"  # what the ring goes by; 5-tuple: each connection
    on_all_down: OnAllDown = "try"  # wrong probes must not cut off all clients
    check: Check  # how to learn whether a server is ready

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError(".servers: at least one is needed (--server HOST:PORT)")
        seen: set[tuple[str, int]] = set()
        for server in self.servers:
            address = parse_address(server.address)
            if address in seen:
                raise ValueError(f".servers: {server.address} stands twice")
            seen.add(address)


class Listener(Config, frozen=True, kw_only=True):
    """An address that clients dial."""

    short_form: ClassVar[str] = "address"

    address: str  # HOST:PORT, IPv6 in brackets; port 0 = any free one
    pool: str | None = None  # may be left out when there is one pool
    limits: Limits = Limits()  # of this listener
    # Whether the client speaks before the server does, as in TLS and HTTP: a server is
    # dialled with the client's first bytes then, which saves packets. "auto": yes,
    # unless the pool is only checked by connecting (type tcp).
    client_first: Literal["auto"] | bool = "auto"
    # Connections from these networks begin with a PROXY header, which names the client.
    proxy_protocol_from: Annotated[tuple[str, ...], Meta(max_length=256)] = ()

    def __post_init__(self) -> None:
        _parse(self.address, zero_port=True)
        for index, text in enumerate(self.proxy_protocol_from):
            try:
                parse_network(text)
            except ValueError as error:
                raise ValueError(f".proxyProtocolFrom[{index}]: {error}") from None


class ModeConfig(Config, frozen=True, kw_only=True):
    """What every mode has."""

    # Threads that forward; null = one per CPU. A change needs a restart.
    workers: Annotated[int, Meta(ge=1, le=64)] | None = None
    # HOST:PORT of health, metrics and the live page; "" = off. Needs a restart, too.
    admin_address: str = ""
    # Unix socket at which a newer process of us takes over; "" = none. Likewise.
    handover_socket: str = ""
    # File that is there while this process serves, for a supervisor that replaces
    # processes; one that was replaced waits to be ended. "" = none. Likewise.
    ready_file: str = ""
    timeouts: Timeouts = Timeouts()  # how long things may take
    log: Log = Log()  # what is said on stderr

    def __post_init__(self) -> None:
        if self.admin_address:
            _parse(self.admin_address, "adminAddress", zero_port=True)


def _parse(text: str, field: str = "address", *, zero_port: bool = False) -> Address:
    try:
        return parse_address(text, zero_port=zero_port)
    except ValueError as error:
        raise ValueError(f".{field}: {error}") from None


def parse_pin(text: str) -> str:
    """Accept what `openssl x509 -fingerprint -sha256` prints, colons or not."""
    value = text.rpartition("=")[2].removeprefix("sha256:").replace(":", "").lower()
    if len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f".pins: {text!r} is not a SHA-256 in hexadecimal")
    return value


def _is_visible(text: str) -> bool:
    """Only characters that may stand in a request line: no blank, no control."""
    return bool(text) and all("!" <= char <= "~" for char in text)
