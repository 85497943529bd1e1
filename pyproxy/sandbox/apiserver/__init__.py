"""A small Kubernetes API server in memory, good enough for kubectl."""

from pyproxy.sandbox.apiserver.kubeconfig import write_kubeconfig
from pyproxy.sandbox.apiserver.server import Apiserver

__all__ = ["Apiserver", "write_kubeconfig"]
