"""The five proxies of Kubernetes in one program: the layer that decides.

Bytes are moved by `fastpath`; nothing here ever sees one. ARCHITECTURE.md has the map.
"""

__version__ = "0.1.0"
