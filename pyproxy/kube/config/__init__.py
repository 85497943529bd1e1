"""Locating an apiserver and its credentials: kubeconfig, flags, pod, plugins."""

from pyproxy.kube.config.access import Access, ContextEntry, Tls, contexts, load
from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.credentials import Credentials
from pyproxy.kube.config.errors import AccessError, CredentialsError
from pyproxy.kube.config.flags import ClientFlags
from pyproxy.kube.config.headers import user_agent
from pyproxy.kube.config.server import Server
from pyproxy.kube.config.watch import Current, Kubeconfigs

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
