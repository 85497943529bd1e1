"""Where the apiserver is for a program in a pod, as the official client finds it.

The one place that needs `kubernetes` so far. Importing it takes a third of a second and
20 MB, so that happens here, when there is no kubeconfig and the pod's files are there.
Its loader reads the token once and ends without ca.crt; kubectl reads it again every
minute and then trusts the system. That difference is ours: we take the address from the
loader, and the files as paths that are watched like any other.
"""

import logging
import os
from collections.abc import Mapping
from types import SimpleNamespace

from pyproxy.kube.config.errors import AccessError
from pyproxy.kube.config.files import read
from pyproxy.kube.config.kubeconfig import Cluster, User
from pyproxy.pem import roots

logger = logging.getLogger(__name__)

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def is_possible(env: Mapping[str, str]) -> bool:
    """Whether this looks like a pod with a service account."""
    known = env.get("KUBERNETES_SERVICE_HOST") and env.get("KUBERNETES_SERVICE_PORT")
    token = os.path.join(MOUNT, "token")
    return bool(known) and os.path.exists(token) and not os.path.isdir(token)


def locate(env: Mapping[str, str]) -> tuple[Cluster, User]:
    """Return the pod's apiserver and service account. Raise AccessError."""
    token, authority = (os.path.join(MOUNT, name) for name in ("token", "ca.crt"))
    try:
        roots(read(authority))
    except ValueError as error:
        extra = {"file": authority, "why": str(error)}
        logger.error("no CA of the cluster, trusting the system's", extra=extra)
        authority = ""
    # The loader insists on a CA file. Where there is none, the token's name will do:
    # only the address is taken from it.
    cluster = Cluster(
        server=_ask_official_client(env, token, authority or token),
        certificate_authority=authority,
    )
    return cluster, User(token_file=token)


def _ask_official_client(env: Mapping[str, str], token: str, authority: str) -> str:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    found = SimpleNamespace(api_key={})  # all that it sets; not the client's globals
    try:
        InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token, authority, try_refresh_token=False, environ=env
        ).load_and_set(found)
    except (ConfigException, OSError, UnicodeError) as error:
        raise AccessError(str(error)) from None
    return str(found.host)
