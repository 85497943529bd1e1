"""What a desk needs to work: an upstream, certificates, a kubeconfig."""

import contextlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.apiserver import authority
from tests.fakes.desk import Desk, kubeconfig
from tests.fakes.recorder import Recorder, pair_for

PLUGIN = """#!/bin/sh
echo run >> {log}
{before}
cat {answer}
"""


class Office:
    """One upstream over TLS that asks for certificates, and proxies in front of it."""

    def __init__(self, directory: Path, upstream: Recorder, issuer: Authority) -> None:
        self.directory = directory
        self.upstream = upstream
        self.issuer = issuer
        self.file = directory / "kubeconfig"
        self._started = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, directory: Path) -> Iterator["Office"]:
        """Start the upstream."""
        issuer = authority(directory / "ca")
        with Recorder(pair_for(issuer), clients=issuer.certificate) as upstream:
            yield cls(directory, upstream, issuer)

    def write(self, user: Mapping[str, Any] | None = None, **cluster: Any) -> str:
        """Write the kubeconfig that `proxy` uses."""
        server = cluster.pop("server", self.upstream.url)
        ca = None if cluster.pop("trusts", True) is False else self.issuer.certificate
        return kubeconfig(self.file, server, user or {"token": "sesame"}, ca, **cluster)

    def proxy(
        self,
        kind: type[Desk],
        *flags: str,
        environment: dict[str, str] | None = None,
    ) -> Desk:
        """Start one with the kubeconfig as it is."""
        if not self.file.exists():
            self.write()
        self._started += 1
        given = any(flag.startswith("--kubeconfig") for flag in flags)
        file = () if given else (f"--kubeconfig={self.file}",)
        return kind(
            self.directory / f"proxy{self._started}",
            *file,
            *flags,
            environment=environment,
        )

    def plugin(self, token: str = "", before: str = "", **status: Any) -> "Plugin":
        """Write a credential plugin."""
        return Plugin(self.directory / "plugin", token, before, **status)

    def pair(self, name: str) -> Pair:
        """Issue a certificate for a client."""
        return self.issuer.issue(name, [name])


class Plugin:
    """A program that prints a credential, and how often it ran."""

    def __init__(
        self, directory: Path, token: str, before: str = "", **status: Any
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._answer, self._log = directory / "answer", directory / "log"
        self._program = directory / "plugin"
        self._log.touch()
        self.give(token, **status)
        text = PLUGIN.format(log=self._log, answer=self._answer, before=before)
        self._program.write_text(text)
        self._program.chmod(stat.S_IRWXU)

    def give(self, token: str = "", **status: Any) -> None:
        """Let the next run print this."""
        said = {"token": token, **status} if token else status
        document = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": said,
        }
        self._answer.write_text(json.dumps(document))

    def give_new_ones(self, **status: Any) -> None:
        """Let each run print its own token, which is its number."""
        self.give("NUMBER", **status)
        text = PLUGIN.format(log=self._log, answer="/dev/null", before="")
        counted = f'sed "s/NUMBER/$(wc -l < {self._log})/" {self._answer}\n'
        self._program.write_text(text + counted)

    @property
    def runs(self) -> int:
        """How often it ran."""
        return len(self._log.read_text().splitlines())

    @property
    def user(self) -> dict[str, Any]:
        """For the kubeconfig."""
        spec = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(self._program),
            "interactiveMode": "Never",
        }
        return {"exec": spec}
