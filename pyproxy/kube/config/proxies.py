"""Which HTTP or SOCKS proxy stands before an apiserver: proxy-url, or the environment.

The environment is read as Go's programs read it (golang.org/x/net/http/httpproxy):
HTTPS_PROXY for https, HTTP_PROXY for http, NO_PROXY with names, domains, addresses,
CIDRs and ports; upper case first. Nothing on this machine is reached through a proxy
that the environment names.
"""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from pyproxy.kube.config.server import Server
from pyproxy.proxyurl import without_password

SCHEMES = ("http", "https", "socks5")  # of proxy-url; the environment may say socks5h


def complaint_about_proxy(url: str) -> str:
    """Say why a proxy-url cannot be used; empty = it can."""
    scheme = _scheme(url)
    if scheme is None:
        return f"could not parse: {without_password(url)}"
    if scheme not in SCHEMES:
        return f'unsupported scheme "{scheme}", must be http, https, or socks5'
    return ""


def proxy_for(server: Server, env: Mapping[str, str]) -> str:
    """Return the URL of the proxy that the environment names; empty = none.

    An address that cannot be parsed is no proxy, as in Go.
    """
    name = f"{server.scheme}_proxy"
    said = env.get(name.upper()) or env.get(name) or ""
    if server.scheme == "http" and env.get("REQUEST_METHOD"):
        return ""  # a CGI script: HTTP_PROXY is the client's header Proxy (httpoxy)
    if not said or server.is_loopback:
        return ""
    if _is_exempt(server, env.get("NO_PROXY") or env.get("no_proxy") or ""):
        return ""
    url = said if "://" in said else f"http://{said}"
    return url if _scheme(url) in (*SCHEMES, "socks5h") else ""


def _scheme(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.scheme


def _is_exempt(server: Server, rules: str) -> bool:
    return any(_matches(server, rule.strip().lower()) for rule in rules.split(","))


def _matches(server: Server, rule: str) -> bool:
    if rule in ("", "*"):
        return rule == "*"
    host = server.host.lower()
    address = _address(host)
    try:
        network = ipaddress.ip_network(rule, strict=False) if "/" in rule else None
    except ValueError:
        network = None
    if network is not None:
        return address is not None and address in network
    name, port = _split(rule)
    if port and port != str(server.port):
        return False
    if (literal := _address(name)) is not None:
        return literal == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(rule: str) -> tuple[str, str]:
    """Take a port off: `host:port`, `[v6]:port`; a bare IPv6 address has none."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", rule)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    name, colon, port = rule.rpartition(":")
    return (name, port) if colon and ":" not in name else (rule, "")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
