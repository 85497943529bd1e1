"""Settings of apiserver-proxy: names of kube-apiserver's flags, and what we add."""

import ipaddress
import re
from typing import Annotated, Literal

from msgspec import Meta

from pyproxy.config import Config, Count, ModeConfig, SecondsOrZero
from pyproxy.http.addresses import Network
from pyproxy.http.identity import HeaderNames
from pyproxy.http.virtualhost import suffix_of
from pyproxy.kube.config import ClientFlags
from pyproxy.modes.apiserver_proxy.keys import MOST_NAMES

MODE = "apiserver-proxy"
PORT = 8443

AuthorizationMode = Literal["webhook", "always-allow"]
AddressType = Literal[
    "InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"
]
# Nothing that proves to us who somebody is, and nothing that HTTP needs.
_PASSED = re.compile(
    r"x-(?!remote-|forwarded-|real-ip)[!#$%&'*+.^_`|~0-9a-z-]{1,64}", re.IGNORECASE
)


class RequestHeader(Config, frozen=True, kw_only=True):
    """Front proxies, whose headers name the user, and the headers."""

    client_ca_file: str = ""  # PEM file: CAs of front proxies; empty = none
    allowed_names: tuple[str, ...] = ()  # their common names; empty = any
    username_headers: tuple[str, ...] = ("X-Remote-User",)  # the first that is there
    uid_headers: tuple[str, ...] = ("X-Remote-Uid",)  # likewise
    group_headers: tuple[str, ...] = ("X-Remote-Group",)  # each is a group
    extra_headers_prefix: tuple[str, ...] = ("X-Remote-Extra-",)  # what they begin with

    def __post_init__(self) -> None:
        headers = (*self.username_headers, *self.uid_headers, *self.group_headers)
        if len(headers) > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES} headers for user, uid and groups")
        for prefix in self.extra_headers_prefix:
            if not prefix.endswith("-"):
                raise ValueError(f".extraHeadersPrefix: {prefix!r} does not end with -")

    @property
    def names(self) -> HeaderNames:
        """Return the names, for the policy."""
        return HeaderNames(
            *(
                tuple(name.lower() for name in names)
                for names in (
                    *(self.username_headers, self.uid_headers, self.group_headers),
                    self.extra_headers_prefix,
                )
            )
        )


class Kubelet(Config, frozen=True, kw_only=True):
    """How kubelets are spoken with."""

    client_certificate: str = ""  # PEM file: who we are to them
    client_key: str = ""  # PEM file: its key
    certificate_authority: str = ""  # PEM file: their CAs; empty = not verified
    # Which of a Node's addresses to dial: the first kind that it has.
    preferred_address_types: tuple[AddressType, ...] = (
        "InternalIP",
        "ExternalIP",
        "Hostname",
    )

    def __post_init__(self) -> None:
        if bool(self.client_certificate) != bool(self.client_key):
            raise ValueError("clientCertificate and clientKey go together")


class ClientLimits(Config, frozen=True, kw_only=True):
    """What one client or user may take; 0 = no limit."""

    max_connections_per_source: Count = 0  # of one client address; more are reset
    # Of one user at a time, tunnels and watches included; one more is answered 429.
    max_requests_per_user: Count = 0
    # Of all requests of one user together, in both directions; what is more waits.
    max_bytes_per_second_per_user: Count = 0

    @property
    def of_users(self) -> bool:
        """Whether users have any."""
        return bool(self.max_requests_per_user or self.max_bytes_per_second_per_user)


class ApiserverProxy(ModeConfig, frozen=True, kw_only=True):
    """A bastion beside an apiserver: to Pods, Services and Nodes behind proxy URLs."""

    bind_address: str = "0.0.0.0"  # IP to listen on; 0.0.0.0 and :: = both families
    secure_port: Annotated[int, Meta(ge=0, le=65535)] = PORT  # 0 = any free one
    # HOST:PORT of health, metrics and the live page; "" = off. Needs a restart.
    admin_address: str = "127.0.0.1:9790"
    tls_cert_file: str = ""  # PEM file; empty = a certificate of our own making
    tls_private_key_file: str = ""  # PEM file: its key
    client_ca_file: str = ""  # PEM file: CAs of users; empty = no such users
    request_header: RequestHeader = RequestHeader()  # users that front proxies name
    anonymous_auth: bool = True  # serve those who show nothing, as system:anonymous
    authorization_mode: AuthorizationMode = "webhook"  # ask the apiserver, or nobody
    token_ttl: SecondsOrZero = SecondsOrZero(10)  # an answer whose token it is
    authorized_ttl: SecondsOrZero = SecondsOrZero(10)  # an answer that one may
    unauthorized_ttl: SecondsOrZero = SecondsOrZero(10)  # an answer that one may not
    limits: ClientLimits = ClientLimits()  # of clients and users
    kubelet: Kubelet = Kubelet()  # how kubelets are spoken with
    # Networks to dial though the rules for addresses refuse them.
    allow_address: tuple[str, ...] = ()
    deny_address: tuple[str, ...] = ()  # networks never to dial, whatever else holds
    forward_rest: bool = True  # send all other paths to the apiserver
    # PEM file: a front proxy's certificate that the apiserver trusts. With it users
    # with certificates are passed on to the apiserver; without it they are refused.
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""  # PEM file: its key
    # Pass paths on decoded and cleaned, as kube-apiserver does, not as they came.
    clean_paths: bool = False
    # Map URLs in pages of HTML to the proxy URL that they came from.
    rewrite_html: bool = True
    # Send X-Forwarded-Uri; without it all paths below a URL share a verdict.
    forwarded_uri: bool = True
    # Serve SERVICE.NAMESPACE.svc.SUFFIX as that Service; empty = by paths only.
    virtual_host_suffix: tuple[str, ...] = ()
    # Header whose value is sent to backends as Authorization, e.g.
    # X-Pyproxy-Authorization, for those that have users of their own; empty = none.
    pass_authorization_header: str = ""
    # File for an audit log, JSON lines as kube-apiserver writes them; "-" = stdout,
    # empty = none. It is opened anew once it was moved away.
    audit_log_path: str = ""
    client: ClientFlags = ClientFlags()  # which apiserver, and as whom

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            ipaddress.ip_address(self.bind_address)
        except ValueError:
            raise ValueError(
                f".bindAddress: {self.bind_address!r} is no IP address"
            ) from None
        for one, other in (
            ("tls_cert_file", "tls_private_key_file"),
            ("proxy_client_cert_file", "proxy_client_key_file"),
        ):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                flags = [f"--{name.replace('_', '-')}" for name in (one, other)]
                raise ValueError(f"{' and '.join(flags)} go together")
        networks("allowAddress", self.allow_address)
        networks("denyAddress", self.deny_address)
        name = self.pass_authorization_header
        if name and not _PASSED.fullmatch(name):
            raise ValueError(
                f".passAuthorizationHeader: {name!r} does not begin with X-"
            )
        for index, text in enumerate(self.virtual_host_suffix):
            try:
                suffix_of(text)
            except ValueError as error:
                raise ValueError(f".virtualHostSuffix[{index}]: {error}") from None

    @property
    def passed_header(self) -> str:
        """Return the header for backends as the policy knows it; "" = none."""
        return self.pass_authorization_header.lower()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Return what names of virtual hosts end with, for the policy."""
        return tuple(suffix_of(text) for text in self.virtual_host_suffix)


def networks(field: str, texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read networks. Raise ValueError."""
    found = []
    for index, text in enumerate(texts):
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f".{field}[{index}]: {error}") from None
    return tuple(found)


def warnings(config: ApiserverProxy) -> list[str]:
    """Return what is possible and yet usually a mistake."""
    found = []
    if config.authorization_mode == "always-allow":
        found.append(
            "EVERY CLIENT THAT IS KNOWN REACHES EVERY POD, SERVICE AND NODE"
            " (--authorization-mode=always-allow)"
        )
        if config.anonymous_auth:
            found.append("AND SO DOES EVERY CLIENT THAT IS NOT (--anonymous-auth)")
    if config.allow_address:
        found.append(
            "addresses are dialled that the rules would refuse:"
            f" {', '.join(config.allow_address)} (--allow-address)"
        )
    if not config.kubelet.certificate_authority:
        found.append("kubelets are not verified (--kubelet-certificate-authority)")
    return found
