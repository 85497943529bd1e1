"""The URL of an apiserver, taken apart."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from pyproxy.kube.config.errors import AccessError
from pyproxy.model import format_address
from pyproxy.proxyurl import without_password

PORTS = {"http": 80, "https": 443}
_IN_PATH = "/%:@!$&'()*+,;=~-._[]"  # stays as it is


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


def parse_server(text: str) -> Server:
    """Read what stands in `server`; no scheme means http. Raise AccessError."""
    shown = without_password(text)
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError as error:
        raise AccessError(f'server "{shown}": {str(error).lower()}') from None
    host = unquote(url.hostname or "")
    if url.scheme not in PORTS:
        raise AccessError(f'server "{shown}": unsupported scheme "{url.scheme}"')
    if not host or not host.isprintable() or set(host) & set(' /\\@"<>'):
        raise AccessError(f'server "{shown}": no host')
    path = quote(url.path.rstrip("/"), safe=_IN_PATH)
    port = PORTS[url.scheme] if port is None else port
    return Server(url.scheme, _ascii(host), port, path)


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise AccessError(f'server "{host}": not a host name') from None
