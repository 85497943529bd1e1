"""Locating an apiserver and its credentials: kubeconfig, flags, pod, plugins.

Names are imported when they are first used: to complete the name of a context takes
the kubeconfig, not the plugins, OIDC and TLS.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "access": ("Access", "ContextEntry", "Tls", "contexts", "load"),
    "clock": ("Clock",),
    "credentials": ("Credentials",),
    "errors": ("AccessError", "CredentialsError"),
    "flags": ("ClientFlags",),
    "headers": ("user_agent",),
    "server": ("Server",),
    "watch": ("Current", "Kubeconfigs"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
