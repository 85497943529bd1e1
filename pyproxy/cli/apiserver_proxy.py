"""`pyproxy apiserver-proxy`: its flags, and how they lie over its file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyproxy.cli.flags import (
    COMMON_FLAGS,
    Command,
    Document,
    Duration,
    File,
    Network,
    Number,
    all_of,
    flag,
    read_settings,
)

if TYPE_CHECKING:
    from pyproxy.modes.apiserver_proxy import ApiserverProxy

COUNT = Number(0, 2**31 - 1)
EXAMPLE = """\b
Example:
  pyproxy apiserver-proxy --kubeconfig admin.conf --client-ca-file ca.crt \\
    --tls-cert-file tls.crt --tls-private-key-file tls.key
  kubectl --server https://localhost:8443 get --raw \\
    /api/v1/namespaces/default/services/web/proxy/
"""

SERVING = [
    flag(
        "--bind-address",
        "IP to listen on; 0.0.0.0 and :: are both families.  [0.0.0.0]",
    ),
    flag("--secure-port", "0 = any free one.  [8443]", Number(0, 65535)),
    flag("--tls-cert-file", "PEM file.  [made at the start]", File()),
    flag("--tls-private-key-file", "PEM file: its key.", File()),
]
USERS = [
    flag("--client-ca-file", "PEM file: CAs of users.", File()),
    flag("--requestheader-client-ca-file", "PEM file: CAs of front proxies.", File()),
    flag(
        "--requestheader-allowed-names",
        "Common name of a front proxy; repeatable.  [any]",
        multiple=True,
    ),
    flag(
        "--requestheader-username-headers",
        "Where they name the user; repeatable.  [X-Remote-User]",
        multiple=True,
    ),
    flag(
        "--requestheader-uid-headers",
        "Its uid; repeatable.  [X-Remote-Uid]",
        multiple=True,
    ),
    flag(
        "--requestheader-group-headers",
        "Its groups; repeatable.  [X-Remote-Group]",
        multiple=True,
    ),
    flag(
        "--requestheader-extra-headers-prefix",
        "What its extra begins with; repeatable.  [X-Remote-Extra-]",
        multiple=True,
    ),
    flag("--anonymous-auth", "Serve those who show nothing.  [true]", bool),
    flag(
        "--authorization-mode",
        "Ask the apiserver what users may do, or let them.  [webhook]",
        click.Choice(["webhook", "always-allow"]),
    ),
    flag(
        "--authentication-token-webhook-cache-ttl",
        "How long an answer whose token it is holds.  [10s]",
        Duration(zero=True),
    ),
    flag(
        "--authorization-webhook-cache-authorized-ttl",
        "How long an answer that one may holds.  [10s]",
        Duration(zero=True),
    ),
    flag(
        "--authorization-webhook-cache-unauthorized-ttl",
        "How long an answer that one may not holds.  [10s]",
        Duration(zero=True),
    ),
]
LIMITS = [
    flag("--max-connections-per-source", "Of one client address.  [no limit]", COUNT),
    flag("--max-requests-per-user", "At a time; then 429.  [no limit]", COUNT),
    flag(
        "--max-bytes-per-second-per-user",
        "Of all requests of a user, both ways.  [no limit]",
        COUNT,
    ),
]
TARGETS = [
    flag("--kubelet-client-certificate", "PEM file: who we are to kubelets.", File()),
    flag("--kubelet-client-key", "PEM file: its key.", File()),
    flag(
        "--kubelet-certificate-authority",
        "PEM file: CAs of kubelets.  [they are not verified]",
        File(),
    ),
    flag(
        "--kubelet-preferred-address-types",
        "Kind of address of a Node; repeatable.  [InternalIP ExternalIP Hostname]",
        multiple=True,
    ),
    flag(
        "--allow-address",
        "Network to dial though the rules refuse it; repeatable.",
        Network(),
        multiple=True,
    ),
    flag("--deny-address", "Never to dial; repeatable.", Network(), multiple=True),
    flag("--clean-paths", "Pass paths on decoded and cleaned.  [false]", bool),
    flag("--rewrite-html", "Map URLs in pages of HTML.  [true]", bool),
    flag("--forwarded-uri", "Send X-Forwarded-Uri.  [true]", bool),
    flag(
        "--pass-authorization-header",
        "Header to send to backends as Authorization.  [none]",
    ),
    flag(
        "--virtual-host-suffix",
        "Serve SERVICE.NAMESPACE.svc.SUFFIX as that Service; repeatable.",
        multiple=True,
    ),
]
REST = [
    flag("--kubeconfig", "Which apiserver, and who we are to it.", File()),
    flag("--context", "Of the kubeconfig."),
    flag("--forward-rest", "Send all other paths to the apiserver.  [true]", bool),
    flag(
        "--proxy-client-cert-file",
        "Of a front proxy: passes on users with certificates.",
        File(),
    ),
    flag("--proxy-client-key-file", "PEM file: its key.", File()),
    flag("--connect-timeout", "Per address that is tried.  [5s]", Duration()),
    flag("--audit-log-path", "File for an audit log; - = stdout.  [none]"),
]

# flag -> field
TOP = {
    "bind_address": "bindAddress",
    "secure_port": "securePort",
    "tls_cert_file": "tlsCertFile",
    "tls_private_key_file": "tlsPrivateKeyFile",
    "client_ca_file": "clientCaFile",
    "anonymous_auth": "anonymousAuth",
    "authorization_mode": "authorizationMode",
    "authentication_token_webhook_cache_ttl": "tokenTtl",
    "authorization_webhook_cache_authorized_ttl": "authorizedTtl",
    "authorization_webhook_cache_unauthorized_ttl": "unauthorizedTtl",
    "allow_address": "allowAddress",
    "deny_address": "denyAddress",
    "clean_paths": "cleanPaths",
    "rewrite_html": "rewriteHtml",
    "forwarded_uri": "forwardedUri",
    "forward_rest": "forwardRest",
    "proxy_client_cert_file": "proxyClientCertFile",
    "proxy_client_key_file": "proxyClientKeyFile",
    "audit_log_path": "auditLogPath",
    "pass_authorization_header": "passAuthorizationHeader",
    "virtual_host_suffix": "virtualHostSuffix",
    "workers": "workers",
    "admin_address": "adminAddress",
    "handover_socket": "handoverSocket",
    "ready_file": "readyFile",
}
NESTED = {
    "requestHeader": {
        "requestheader_client_ca_file": "clientCaFile",
        "requestheader_allowed_names": "allowedNames",
        "requestheader_username_headers": "usernameHeaders",
        "requestheader_uid_headers": "uidHeaders",
        "requestheader_group_headers": "groupHeaders",
        "requestheader_extra_headers_prefix": "extraHeadersPrefix",
    },
    "kubelet": {
        "kubelet_client_certificate": "clientCertificate",
        "kubelet_client_key": "clientKey",
        "kubelet_certificate_authority": "certificateAuthority",
        "kubelet_preferred_address_types": "preferredAddressTypes",
    },
    "client": {"kubeconfig": "kubeconfig", "context": "context"},
    "limits": {
        "max_connections_per_source": "maxConnectionsPerSource",
        "max_requests_per_user": "maxRequestsPerUser",
        "max_bytes_per_second_per_user": "maxBytesPerSecondPerUser",
    },
    "timeouts": {
        "connect_timeout": "connect",
        "drain_timeout": "drain",
        "shutdown_delay": "shutdownDelay",
    },
    "log": {"log_level": "level", "log_format": "format"},
}
# Flags that may be given several times, or once with commas, as to kube-apiserver.
LISTS = (
    "requestheader_allowed_names",
    "requestheader_username_headers",
    "requestheader_uid_headers",
    "requestheader_group_headers",
    "requestheader_extra_headers_prefix",
    "kubelet_preferred_address_types",
    "virtual_host_suffix",
)


@click.command("apiserver-proxy", cls=Command, epilog=EXAMPLE)
@all_of(SERVING)
@all_of(USERS)
@all_of(LIMITS)
@all_of(TARGETS)
@all_of(REST)
@all_of(COMMON_FLAGS)
def apiserver_proxy(config: str | None, **flags: Any) -> None:
    """Lead users to Pods, Services and Nodes.

    What an apiserver does behind its proxy URLs, without the bytes going through it.
    The cluster says who users are and what they may do.
    Other paths go to the apiserver, so that a kubeconfig may name us as its server.
    """
    # Here, as in every command: `--help` and TAB need none of it.
    from pyproxy.cli.serving import serve
    from pyproxy.modes.apiserver_proxy import MODE, run

    file = Path(config) if config else None
    serve(file, partial(read_config, file, flags), MODE, run)


def read_config(file: Path | None, flags: Document) -> "ApiserverProxy":
    """Read the file, lay the flags over it, and check the whole."""
    from pyproxy.modes.apiserver_proxy import ApiserverProxy

    return read_settings(file, flags, overlay, ApiserverProxy)


def overlay(document: Document, flags: Document) -> Document:
    """Lay flags over a document; what is malformed stays so, for `convert` to say."""
    given: Document = {}
    for name, value in flags.items():
        if value is None or value == ():
            continue
        if name in LISTS:
            value = [word for text in value for word in text.split(",") if word]
        given[name] = list(value) if isinstance(value, tuple) else value
    document = {**document, **_renamed(given, TOP)}
    for field, fields in NESTED.items():
        said = _renamed(given, fields)
        under = document.get(field, {})
        if said and isinstance(under, dict):
            document[field] = {**under, **said}
    return document


def _renamed(given: Document, fields: dict[str, str]) -> Document:
    return {field: given[name] for name, field in fields.items() if name in given}
