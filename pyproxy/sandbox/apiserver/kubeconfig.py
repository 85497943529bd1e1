"""The file by which clients find an API server and say who they are."""

import base64
import json
from pathlib import Path


def write_kubeconfig(path: Path, server: str, ca: Path, token: str) -> None:
    """Write a kubeconfig with one context; JSON is YAML, too."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    cluster = {"server": server, "certificate-authority-data": authority}
    context = {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": context}],
    }
    path.touch(mode=0o600)  # it holds a token
    path.write_text(json.dumps(document, indent=2))
