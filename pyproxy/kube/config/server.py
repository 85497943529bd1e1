"""The URL of an apiserver, taken apart."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, unquote_to_bytes

import idna

from pyproxy.kube.config.errors import AccessError
from pyproxy.model import format_address
from pyproxy.proxyurl import without_password

PORTS = {"http": 80, "https": 443}
_IN_PATH = "/:@!$&'()*+,;=~-._[]"  # stays as it is


@dataclass(frozen=True, slots=True)
class Server:
    """Where an apiserver is. Host without brackets, path without a slash at its end."""

    scheme: str  # "http" or "https"
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """What belongs into Host: the port only where it is not the scheme's own."""
        host = self.host.partition("%")[0]  # a zone means something to us alone
        if self.port != PORTS[self.scheme]:
            return format_address(host, self.port)
        return f"[{host}]" if ":" in host else host

    @property
    def url(self) -> str:
        """The whole of it."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def needs_zone(self) -> bool:
        """Whether its address says nothing without the zone behind it."""
        address, _, zone = self.host.partition("%")
        return bool(zone) and ipaddress.IPv6Address(address).is_link_local

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can be meant."""
        host = self.host.lower()
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


# What looks like a fragment belongs to the path: Go, url.ParseRequestURI.
_AUTHORITY = re.compile(r"([^/?#]*)((?:/[^?]*)?)")
_IN_BRACKETS = re.compile(r"\[([^][]*)\](?::(\d*))?", re.ASCII)
_PLAIN = re.compile(r"([^][:]*)(?::(\d*))?", re.ASCII)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?=[^/?#])", re.ASCII)
_ESCAPE = re.compile(r"%(?:([0-9A-Fa-f]{2})|)")
# Letters that IDNA of 2003 writes otherwise than that of 2008: another host.
_DEVIATE = frozenset("ßẞς\u200c\u200d")


def parse_server(text: str) -> Server:
    """Read what stands in `server`; no scheme means http. Raise AccessError.

    Source: client-go's DefaultServerURL and Go's net/url.
    """
    shown = without_password(text)
    try:
        return _parse(text, shown)
    except ValueError as error:
        raise AccessError(f'server "{shown}": {str(error).lower()}') from None


def _parse(text: str, shown: str) -> Server:
    if not text.isprintable() or text != text.strip():
        raise ValueError("invalid character in URL")
    url = _URL.match(text)
    scheme = url[1].lower() if url else "http"
    found = _AUTHORITY.match(text, url.end() if url else 0)
    assert found is not None  # it may be empty
    if url is None and found[2] not in ("", "/"):
        raise AccessError(f'host must be a URL or a host:port pair: "{shown}"')
    if scheme not in PORTS:
        raise ValueError(f'unsupported scheme "{scheme}"')
    host, port = _place(found[1].rpartition("@")[2])
    _check_escapes(found[2])
    path = quote(unquote_to_bytes(found[2]), safe=_IN_PATH).removesuffix("/")
    return Server(scheme, host, int(port) if port else PORTS[scheme], path)


def _place(text: str) -> tuple[str, str]:
    """Return host and port; neither brackets nor escapes are left in the host."""
    if bracketed := _IN_BRACKETS.fullmatch(text):
        address, percent, zone = bracketed[1].partition("%25")
        _check_escapes(address, least=0x100)
        _check_escapes(zone)
        ipaddress.IPv6Address(address)
        if bool(percent) != bool(zone):
            raise ValueError("no zone after the address")
        host = f"{address.lower()}%{unquote(zone)}" if zone else address.lower()
        port = bracketed[2] or ""
    elif plain := _PLAIN.fullmatch(text):
        _check_escapes(plain[1], least=0x80)
        host, port = _ascii(unquote(plain[1])).lower(), plain[2] or ""
    else:
        raise ValueError("invalid host or port")
    if not host or not host.isprintable() or set(host) & set(' /\\@"<>'):
        raise ValueError("no host")
    if port and int(port) > 65535:
        raise ValueError("port out of range 0-65535")
    return host, port


def _check_escapes(text: str, least: int = 0) -> None:
    for found in _ESCAPE.finditer(text):
        if found[1] is None or int(found[1], 16) < least:
            raise ValueError("invalid URL escape")


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        pass  # a picture, perhaps
    try:
        if not _DEVIATE & set(host):
            return host.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    raise ValueError("not a host name")
