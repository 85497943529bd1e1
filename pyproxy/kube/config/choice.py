"""Which cluster and which user: kubeconfig entries with the flags laid over them.

Restates client-go's overrides (tools/clientcmd, client_config.go) and its complaints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from pyproxy.config.duration import parse_duration
from pyproxy.kube.config.errors import AccessError, invalid
from pyproxy.kube.config.flags import ClientFlags
from pyproxy.kube.config.kubeconfig import Base64, Cluster, Context, Kubeconfig, User
from pyproxy.kube.config.validate import about_cluster, about_user

DEFAULT_SERVER = "http://localhost:8080"


@dataclass(frozen=True, slots=True)
class Choice:
    """One cluster and one user, ready to be used."""

    context_name: str
    context: Context
    cluster_name: str
    cluster: Cluster
    user_name: str
    user: User


def choose(config: Kubeconfig, flags: ClientFlags, env: Mapping[str, str]) -> Choice:
    """Pick the entries that `flags` and current-context name. Raise AccessError.

    A name from a flag must exist; one from current-context or from a context may be
    missing: its entry is then an empty one.
    """
    name = flags.context or config.current_context
    context = _overlay(
        config.contexts.get(name, Context()),
        cluster=flags.cluster,
        user=flags.user,
        namespace=flags.namespace,
    )
    if flags.user and flags.user not in config.users:
        raise AccessError(f'auth info "{flags.user}" does not exist')
    if flags.context and flags.context not in config.contexts:
        raise AccessError(f'context "{flags.context}" does not exist')
    if flags.cluster and flags.cluster not in config.clusters:
        raise AccessError(f'cluster "{flags.cluster}" does not exist')
    cluster = _cluster_with(config.clusters.get(context.cluster, Cluster()), flags)
    cluster = _overlay(cluster, server=cluster.server or default_server(env))
    user = _user_with(config.users.get(context.user, User()), flags)
    choice = Choice(name, context, context.cluster, cluster, context.user, user)
    _check(config, choice, flags)
    return choice


def default_server(env: Mapping[str, str]) -> str:
    """Return the server of configurations that name none."""
    return env.get("KUBERNETES_MASTER") or DEFAULT_SERVER


def _check(config: Kubeconfig, choice: Choice, flags: ClientFlags) -> None:
    complaints = [
        *about_user(choice.user_name, choice.user),
        *about_cluster(choice.cluster_name, choice.cluster),
    ]
    name = choice.context_name
    if name and name not in config.contexts:
        lost = f"context was not found for specified context: {name}"
        if not complaints:
            raise AccessError(lost, f"Error in configuration: {lost}")
        complaints.insert(0, lost)
    if complaints:
        raise invalid(complaints)
    timeout_s(flags)


def timeout_s(flags: ClientFlags) -> float:
    """Return `--request-timeout` in seconds, 0 = none. Raise AccessError."""
    text = flags.request_timeout
    try:
        if text.isdecimal():
            return float(text)
        return parse_duration(text.removeprefix("-")) if text else 0.0
    except ValueError:
        raise AccessError(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an"
            " integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)"
        ) from None


E = TypeVar("E", Cluster, User, Context)


def _overlay(entry: E, **said: object) -> E:
    """Return the entry with what was said; what is empty was not."""
    given = {name: value for name, value in said.items() if value}
    return msgspec.structs.replace(entry, **given) if given else entry


def _cluster_with(cluster: Cluster, flags: ClientFlags) -> Cluster:
    cluster = _overlay(
        cluster,
        server=flags.server,
        disable_compression=flags.disable_compression,
        proxy_url=flags.proxy_url,
    )
    if flags.server or flags.tls_server_name:
        # The name in the file belongs to the server in the file.
        cluster = msgspec.structs.replace(
            cluster, tls_server_name=flags.tls_server_name
        )
    if flags.insecure_skip_tls_verify or flags.certificate_authority:
        cluster = msgspec.structs.replace(
            cluster,
            insecure_skip_tls_verify=flags.insecure_skip_tls_verify,
            certificate_authority=flags.certificate_authority,
            certificate_authority_data=Base64(),
        )
    return cluster


def _user_with(user: User, flags: ClientFlags) -> User:
    extra: dict[str, tuple[str, ...]] = {}
    for each in flags.as_user_extra:
        key, equals, value = each.partition("=")
        if equals:
            extra[key] = (*extra.get(key, ()), value)
    user = _overlay(
        user,
        token=flags.token,
        as_=flags.as_,
        as_uid=flags.as_uid,
        as_groups=flags.as_groups,
        as_user_extra={**user.as_user_extra, **extra},
        username=flags.username,
        password=flags.password,
    )
    if flags.client_certificate:
        user = msgspec.structs.replace(
            user,
            client_certificate=flags.client_certificate,
            client_certificate_data=Base64(),
        )
    if flags.client_key:
        user = msgspec.structs.replace(
            user, client_key=flags.client_key, client_key_data=Base64()
        )
    return user
