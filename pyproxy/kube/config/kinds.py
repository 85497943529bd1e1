"""Which kind of credentials a user entry asks for: client-go's order and complaints."""

import logging
from collections.abc import Callable, Mapping

from pyproxy import pem
from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.credentials import Credentials, Fixed, Pair, Source, TokenFile
from pyproxy.kube.config.errors import AccessError
from pyproxy.kube.config.files import Kept, read
from pyproxy.kube.config.headers import basic, bearer
from pyproxy.kube.config.kubeconfig import EXEC_V1, EXEC_V1BETA1, Cluster, User
from pyproxy.kube.config.kuberc import plugin_policy
from pyproxy.kube.config.oidc import Oidc
from pyproxy.kube.config.plugin import Plugin

logger = logging.getLogger(__name__)

REMOVED = {
    "gcp": (
        "The gcp auth plugin has been removed.\n"
        'Please use the "gke-gcloud-auth-plugin" kubectl/client-go credential plugin'
        " instead.\nSee https://cloud.google.com/blog/products/containers-kubernetes/"
        "kubectl-auth-changes-in-gke for further details"
    ),
    "azure": (
        "The azure auth plugin has been removed.\n"
        "Please use the https://github.com/Azure/kubelogin kubectl/client-go credential"
        " plugin instead.\nSee https://kubernetes.io/docs/reference/access-authn-authz/"
        "authentication/#client-go-credential-plugins for further details"
    ),
}


def credentials_of(
    cluster: Cluster,
    user: User,
    env: Mapping[str, str],
    clock: Clock,
    save: Callable[[Mapping[str, str]], None],
    *,
    secure: bool,
) -> Credentials:
    """Make what a user is; nobody where the wire is not secure. Raise AccessError.

    `save` keeps the tokens of an auth-provider for the next process.
    """
    if not secure:
        return Credentials(Fixed())
    try:
        source = _source(cluster, user, env, clock, save)
        return Credentials(source, _pair(user), _authority(cluster))
    except ValueError as error:
        raise AccessError(str(error)) from None


def _source(
    cluster: Cluster,
    user: User,
    env: Mapping[str, str],
    clock: Clock,
    save: Callable[[Mapping[str, str]], None],
) -> Source:
    """Raise ValueError in kubectl's words."""
    spec, provider = user.exec, user.auth_provider
    oidc = None
    if spec is not None and spec.api_version not in (EXEC_V1, EXEC_V1BETA1):
        raise ValueError(f'exec plugin: invalid apiVersion "{spec.api_version}"')
    if provider is not None and provider.name == "oidc":
        oidc = Oidc(provider.config, save, clock)
    elif provider is not None:
        lost = f'no Auth Provider found for name "{provider.name}"'
        raise ValueError(REMOVED.get(provider.name, lost))
    if user.token_file:
        if user.username:
            raise ValueError(
                "username/password or bearer token may be set, but not both"
            )
        return TokenFile(user.token_file, user.token, clock)
    if user.token:
        return Fixed(bearer(user.token))
    if user.username:
        return Fixed(basic(user.username, user.password))
    if spec is not None and not _has_certificate(user):
        authority, policy = _read_authority(cluster), plugin_policy(env)
        return Plugin(spec, cluster, authority, env, clock, policy)
    return oidc or Fixed()


def _has_certificate(user: User) -> bool:
    certificate = user.client_certificate or user.client_certificate_data
    return bool(certificate and (user.client_key or user.client_key_data))


def _pair(user: User) -> Kept[Pair] | None:
    """Read the certificate; again when it changes, if both halves are files."""
    if not _has_certificate(user):
        return None
    files = (user.client_certificate, user.client_key)

    def make() -> Pair:
        certificate = bytes(user.client_certificate_data) or read(files[0])
        key = bytes(user.client_key_data) or read(files[1])
        return pem.pair(certificate, key)

    return Kept("client certificate", files if all(files) else (), make)


def _authority(cluster: Cluster) -> Kept[bytes] | None:
    """Read what to trust; again when it changes, if it is a file."""
    file, data = cluster.certificate_authority, cluster.certificate_authority_data
    if not file and not data:
        return None
    if cluster.insecure_skip_tls_verify:
        raise ValueError(
            "specifying a root certificates file with the insecure flag is not allowed"
        )

    began = False

    def make() -> bytes:
        nonlocal began
        raw = bytes(data) or read(file)
        # An empty file trusts no authority, not even those of the system; one
        # that becomes empty is being written.
        if not raw and not began:
            began = True
            return b""
        try:
            found = pem.roots(raw)
        except ValueError as error:
            raise ValueError(f"unable to load root certificates: {error}") from None
        began = True
        if found.broken:
            extra = {"file": file or "data in the kubeconfig", "count": found.broken}
            logger.warning("broken certificates of authorities skipped", extra=extra)
        return found.pem

    return Kept("certificate authority", () if data else (file,), make)


def _read_authority(cluster: Cluster) -> bytes:
    data = cluster.certificate_authority_data
    if data or not cluster.certificate_authority:
        return bytes(data)
    return read(cluster.certificate_authority)
