"""The bastion: Pods, Services and Nodes of a cluster behind an apiserver's proxy URLs.

Users are who the cluster says they are and may do what it lets them; the bytes go
through us and not through the apiserver. `http` and `discovery` read requests and find
addresses, `kube` watches and asks, the core remembers verdicts and moves the bytes.
"""

from pyproxy.modes.apiserver_proxy.config import MODE, ApiserverProxy
from pyproxy.modes.apiserver_proxy.service import run

__all__ = ["MODE", "ApiserverProxy", "run"]
