"""The proxy on the desk: one local address that is an apiserver, with us as the user.

A drop-in for `kubectl proxy`: the core moves bytes and remembers verdicts, `http` makes
them, `kube` knows where the apiserver is and who we are there.
"""

from pyproxy.modes.kubectl_proxy.config import MODE, KubectlProxy
from pyproxy.modes.kubectl_proxy.service import run

__all__ = ["MODE", "KubectlProxy", "run"]
