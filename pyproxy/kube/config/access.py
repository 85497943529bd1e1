"""The way to one apiserver: address, trust, credentials; found as kubectl finds it.

Flags over kubeconfig files; without those, the service account of a pod; without that,
http://localhost:8080. No credentials ever go to an http:// server.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from pyproxy.kube.config import incluster
from pyproxy.kube.config.choice import Choice, choose, default_server, timeout_s
from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.credentials import Credentials
from pyproxy.kube.config.flags import ClientFlags
from pyproxy.kube.config.headers import Pairs, impersonation
from pyproxy.kube.config.kinds import credentials_of
from pyproxy.kube.config.kubeconfig import (
    Cluster,
    Kubeconfig,
    Loaded,
    User,
    candidates,
    load_files,
)
from pyproxy.kube.config.proxies import proxy_for
from pyproxy.kube.config.rewrite import save_auth_provider
from pyproxy.kube.config.server import Server, parse_server


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS client towards the apiserver is made of, PEM throughout."""

    ca: bytes | None  # None = the system's authorities, b"" = none
    certificate: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str  # for SNI and verification
    verify: bool


@dataclass(frozen=True, slots=True)
class Access:
    """Everything about one apiserver that a proxy needs. Its repr holds no secret."""

    context: str  # its name; "" = none was chosen
    namespace: str
    server: Server
    proxy_url: str = field(repr=False)  # "" = dial the server; may hold a password
    impersonation: Pairs
    credentials: Credentials
    disable_compression: bool
    request_timeout_s: float
    files: tuple[str, ...]  # kubeconfigs looked for, whether they exist or not
    warnings: tuple[str, ...]
    origin: "Origin" = field(repr=False)  # what it was made from

    @property
    def tls(self) -> Tls | None:
        """Return what to speak TLS with, as it is now; None for an http:// server."""
        if self.server.scheme != "https":
            return None
        certificate, key = self.credentials.tls() or (None, None)
        cluster = self.origin.cluster
        return Tls(
            ca=self.credentials.authority(),
            certificate=certificate,
            key=key,
            # No certificate is for an address in a zone.
            server_name=cluster.tls_server_name or self.server.host.partition("%")[0],
            verify=not cluster.insecure_skip_tls_verify,
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """What the credentials depend on: as long as it is equal, they are kept."""

    cluster: Cluster
    user: User


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """One context of the kubeconfig, for lists."""

    name: str
    cluster: str
    user: str
    namespace: str
    server: str
    current: bool


def load(
    flags: ClientFlags,
    env: Mapping[str, str] = os.environ,
    *,
    clock: Clock | None = None,
    previous: Access | None = None,
    loaded: Loaded | None = None,
) -> Access:
    """Find the apiserver. Raise AccessError, whose `text` is what kubectl would say.

    `loaded` is what the files hold, if that is known already. `previous` lends its
    credentials where nothing about them has changed, so that a reload does not log in
    again.
    """
    files = candidates(flags.kubeconfig, env)
    config, complaints = loaded or load_files(flags.kubeconfig, env)
    warnings = list(complaints)
    choice = choose(config, flags, env)
    cluster, user = choice.cluster, choice.user
    if _is_default(choice, env) and incluster.is_possible(env):
        cluster, user = _in_pod(env, choice, flags)
    server = parse_server(cluster.server)
    origin = Origin(cluster, user)
    if previous is not None and previous.origin == origin:
        credentials = previous.credentials
    else:
        save = partial(save_auth_provider, files, choice.user_name)
        secure = server.scheme == "https"
        credentials = credentials_of(
            cluster, user, env, clock or Clock(), save, secure=secure
        )
    if cluster is choice.cluster and _is_unnamed(config, choice, flags, env):
        looked = " or ".join(filter(None, files)) or "a kubeconfig"
        warnings.append(
            f"no server is named by --server, $KUBERNETES_MASTER or {looked}: using"
            f" {server.url}"
        )
    if server.scheme == "https" and credentials.are_none:
        who = f'user "{choice.user_name}" has' if choice.user_name else "there are"
        warnings.append(f"{who} no credentials: requests go out as nobody")
    return Access(
        context=choice.context_name,
        namespace=choice.context.namespace or "default",
        server=server,
        proxy_url=cluster.proxy_url or proxy_for(server, env),
        impersonation=impersonation(user),
        credentials=credentials,
        disable_compression=cluster.disable_compression,
        request_timeout_s=timeout_s(flags),
        files=files,
        warnings=tuple(warnings),
        origin=origin,
    )


def contexts(
    flags: ClientFlags, env: Mapping[str, str] = os.environ
) -> tuple[ContextEntry, ...]:
    """Return every context, in the order of the files. Raise AccessError."""
    config, _ = load_files(flags.kubeconfig, env)
    current = flags.context or config.current_context
    return tuple(
        ContextEntry(
            name=name,
            cluster=context.cluster,
            user=context.user,
            namespace=context.namespace or "default",
            server=config.clusters.get(context.cluster, Cluster()).server,
            current=name == current,
        )
        for name, context in config.contexts.items()
    )


def _is_default(choice: Choice, env: Mapping[str, str]) -> bool:
    """Whether no flag, file or variable says where the apiserver is.

    Impersonation, compression and timeouts say nothing about that. kubectl thinks they
    do: in a pod, `--as` sends it to localhost:8080.
    """
    cluster = choice.cluster
    if cluster.server != default_server(env) or cluster.proxy_url:
        return False
    said = (
        cluster.certificate_authority
        or cluster.certificate_authority_data
        or cluster.insecure_skip_tls_verify
        or choice.user != User()
    )
    return cluster.server.startswith("http://") or not said


def _is_unnamed(
    config: Kubeconfig, choice: Choice, flags: ClientFlags, env: Mapping[str, str]
) -> bool:
    """Whether the server is the default, which no setting named."""
    named = config.clusters.get(choice.cluster_name, Cluster()).server
    return not (flags.server or named or env.get("KUBERNETES_MASTER"))


def _in_pod(
    env: Mapping[str, str], choice: Choice, flags: ClientFlags
) -> tuple[Cluster, User]:
    cluster, user = incluster.locate(env)
    said = choice.user
    user = msgspec.structs.replace(
        user,
        token=flags.token,
        token_file="" if flags.token else user.token_file,
        as_=said.as_,
        as_uid=said.as_uid,
        as_groups=said.as_groups,
        as_user_extra=said.as_user_extra,
    )
    authority = flags.certificate_authority or cluster.certificate_authority
    cluster = msgspec.structs.replace(
        cluster,
        certificate_authority=authority,
        disable_compression=choice.cluster.disable_compression,
    )
    return cluster, user
