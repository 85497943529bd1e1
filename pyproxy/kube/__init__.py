"""Locating an apiserver and its credentials: kubeconfig, flags, pod, plugins."""

from pyproxy.kube.access import Access, ContextEntry, Tls, contexts, load
from pyproxy.kube.clock import Clock
from pyproxy.kube.credentials import Credentials
from pyproxy.kube.errors import AccessError, CredentialsError
from pyproxy.kube.flags import ClientFlags
from pyproxy.kube.headers import user_agent
from pyproxy.kube.server import Server
from pyproxy.kube.watch import Current, Kubeconfigs

__all__ = [
    "Access",
    "AccessError",
    "ClientFlags",
    "Clock",
    "ContextEntry",
    "Credentials",
    "CredentialsError",
    "Current",
    "Kubeconfigs",
    "Server",
    "Tls",
    "contexts",
    "load",
    "user_agent",
]
