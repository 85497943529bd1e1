"""Users of the credential plugin `login.py`."""

import json
import sys
from pathlib import Path

import pytest

from pyproxy.kube.config import ClientFlags, Credentials, CredentialsError, load
from pyproxy.kube.config.kubeconfig import EXEC_V1
from tests.fakes.clock import FakeClock
from tests.fakes.kubectl import Document, environment, one_context, write

LOGIN = Path(__file__).parent / "login.py"


def answer(version: str = EXEC_V1, **status: str) -> str:
    """Return what a plugin prints."""
    document = {"kind": "ExecCredential", "apiVersion": version, "status": status}
    return json.dumps(document)


class Login:
    """A directory for `login.py`, and a kubeconfig that names it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.say(token="one")

    def say(self, **status: str) -> None:
        """Choose what it prints from now on."""
        (self.directory / "answer").write_text(answer(**status))

    def calls(self) -> list[Document]:
        """Return how it was called, one entry for each time."""
        file = self.directory / "calls"
        return (
            [*map(json.loads, file.read_text().splitlines())] if file.exists() else []
        )

    def open_gate(self) -> None:
        """Let it go on."""
        (self.directory / "gate").unlink()

    def spec(self, **more: object) -> Document:
        """Return the entry `exec`."""
        return {
            "apiVersion": EXEC_V1,
            "command": sys.executable,
            "args": [str(LOGIN), str(self.directory)],
            "interactiveMode": "Never",
            **more,
        }

    def kubeconfig(self, cluster: Document, **more: object) -> dict[str, str]:
        """Write one and return an environment that names it."""
        user = {"exec": self.spec(**more)}
        document = one_context({"server": "https://h", **cluster}, user)
        file = write(self.directory / "config", document)
        return environment(self.directory, KUBECONFIG=str(file), FROM_US="1")

    def credentials(self, **more: object) -> Credentials:
        """Return credentials of such a user."""
        env = self.kubeconfig({}, **more)
        return load(ClientFlags(), env, clock=self.clock).credentials


async def token(of: Credentials) -> str:
    """Return the token shown."""
    ((_, value),) = await of.headers()
    return value.removeprefix("Bearer ")


async def complaint(of: Credentials) -> str:
    """Return why there are no credentials."""
    with pytest.raises(CredentialsError) as caught:
        await of.headers()
    return str(caught.value)
