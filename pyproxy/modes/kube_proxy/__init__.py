"""The kube proxy: every Service of the cluster, on this node.

`discovery.services` makes vips and pools of Services and EndpointSlices, the core moves
bytes and datagrams, `capture` brings packets of the Services' addresses to it; this
package is the agent around them: who this node is, what its health is, what is said.
"""

from pyproxy.modes.kube_proxy.config import MODE, KubeProxy, warnings

__all__ = ["MODE", "KubeProxy", "warnings"]
