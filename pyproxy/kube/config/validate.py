"""What contradicts itself in an entry: client-go's complaints, in its words and order.

Restates validateAuthInfo and validateClusterInfo (tools/clientcmd, validation.go).
"""

import os
from collections.abc import Iterator

from pyproxy.kube.config.kubeconfig import Cluster, Exec, User
from pyproxy.kube.config.proxies import complaint_about_proxy
from pyproxy.proxyurl import without_password

MODES = ("Never", "IfAvailable", "Always")


def about_user(name: str, user: User) -> Iterator[str]:
    """Yield what is wrong with a user."""
    if user.client_certificate or user.client_certificate_data:
        yield from _about_certificate(name, user)
    if user.exec is not None:
        if user.auth_provider is not None:
            yield (
                "authProvider cannot be provided in combination with an exec plugin for"
                f" {name}"
            )
        yield from _about_exec(name, user.exec)
    if user.token and (user.username or user.password):
        yield (
            f"more than one authentication method found for {name}; found [token"
            " basicAuth], only one is allowed"
        )
    if not user.as_ and (user.as_uid or user.as_groups or user.as_user_extra):
        yield (
            f"requesting uid, groups or user-extra for {name} without impersonating a"
            " user"
        )


def _about_certificate(name: str, user: User) -> Iterator[str]:
    if user.client_certificate and user.client_certificate_data:
        yield (
            f"client-cert-data and client-cert are both specified for {name}."
            " client-cert-data will override."
        )
    if user.client_key and user.client_key_data:
        yield (
            f"client-key-data and client-key are both specified for {name};"
            " client-key-data will override"
        )
    if not user.client_key and not user.client_key_data:
        yield (
            f"client-key-data or client-key must be specified for {name} to use the"
            " clientCert authentication method."
        )
    yield from _about_file("client-cert", user.client_certificate, name)
    yield from _about_file("client-key", user.client_key, name)


def _about_exec(name: str, spec: Exec) -> Iterator[str]:
    to_use = f"must be specified for {name} to use exec authentication plugin"
    if not spec.command:
        yield f"command {to_use}"
    if not spec.api_version:
        yield f"apiVersion {to_use}"
    for variable in spec.env:
        if not variable.name:
            yield f"env variable name {to_use}"
    if not spec.interactive_mode:
        yield f"interactiveMode {to_use}"
    elif spec.interactive_mode not in MODES:
        yield f'invalid interactiveMode for {name}: "{spec.interactive_mode}"'


def about_cluster(name: str, cluster: Cluster) -> Iterator[str]:
    """Yield what is wrong with a cluster."""
    if cluster.proxy_url and (why := complaint_about_proxy(cluster.proxy_url)):
        shown = without_password(cluster.proxy_url)
        yield f'invalid \'proxy-url\' "{shown}" for cluster "{name}": {why}'
    if cluster.certificate_authority and cluster.certificate_authority_data:
        yield (
            "certificate-authority-data and certificate-authority are both specified"
            f" for {name}. certificate-authority-data will override."
        )
    yield from _about_file("certificate-authority", cluster.certificate_authority, name)


def _about_file(what: str, file: str, name: str) -> Iterator[str]:
    if not file:
        return
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        why = (error.strerror or "").lower()
        yield f"unable to read {what} {file} for {name} due to open {file}: {why}"
