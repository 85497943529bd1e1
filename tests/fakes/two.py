"""Two proxies with the same flags in front of the same upstream, asked the same."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fakes.apiserver import authority
from tests.fakes.desk import AGAIN, Answer, Desk, Kubectl, has_ended, hear, kubeconfig
from tests.fakes.recorder import Recorder, Seen, pair_for

# What differs, and why nobody minds.
UNCOMPARED = {
    "date": "Go's server adds one where the upstream had none",
    "content-type": "Go's server guesses one where the upstream had none",
    "content-length": "bodies are compared",
    "connection": "compared as closing or not",
}
UNCOMPARED_UPSTREAM = {
    "user-agent": "each has its own",
    "accept-encoding": "kubectl asks for gzip and unpacks it; we pass on what came",
    "content-length": "Go sends 0 for a POST without a body; bodies are compared",
}


class Outcome(NamedTuple):
    """What a request came to, for the client and for the upstream."""

    answer: Answer
    seen: tuple[Seen, ...]

    @property
    def facts(self) -> dict[str, object]:
        """What must be the same for both."""
        # A reply of the proxy itself; what a 304 says of its type is nobody's business.
        own = not self.seen and self.answer.status != 304
        headers = _less(self.answer.headers, UNCOMPARED)
        return {
            "status": self.answer.status,
            "headers": headers,
            "type": self.answer.get("content-type") if own else None,
            "body": self.answer.body,
            "closes": self.answer.closes,
            "upstream": [
                (seen.line, _less(seen.headers, UNCOMPARED_UPSTREAM), seen.body)
                for seen in self.seen
            ],
        }


def _less(
    headers: tuple[tuple[str, str], ...], names: dict[str, str]
) -> list[tuple[str, str]]:
    return sorted(header for header in headers if header[0] not in names)


class Two:
    """Both proxies, running."""

    def __init__(self, kubectl: Desk, ours: Desk, upstream: Recorder) -> None:
        self.upstream = upstream
        self._kubectl = kubectl
        self._ours = ours

    def kubectl(self, raw: bytes) -> Outcome:
        """Say it to the peer."""
        return self._say(self._kubectl, raw)

    def ours(self, raw: bytes) -> Outcome:
        """Say it to us."""
        return self._say(self._ours, raw)

    def _say(self, desk: Desk, raw: bytes) -> Outcome:
        before = len(self.upstream.seen)
        with desk.dial() as connection:
            connection.sendall(raw)
            answer = hear(connection, raw.split(b" ", 1)[0].decode("latin-1"))
            closes = answer.closes or has_ended(connection)
            answer = answer._replace(closes=closes)
        seen = [s for s in self.upstream.seen[before:] if s.target[-6:] != AGAIN]
        return Outcome(answer, tuple(seen))


@contextlib.contextmanager
def side_by_side(directory: Path, *flags: str, path: str = "") -> Iterator[Two]:
    """Start both; `path` is the one of the server's URL."""
    directory.mkdir(parents=True, exist_ok=True)
    issuer = authority(directory / "ca")
    with Recorder(pair_for(issuer)) as upstream:
        file = directory / "kubeconfig"
        ca = issuer.certificate
        user = {"token": "sesame"}
        all_flags = [f"--kubeconfig={kubeconfig(file, upstream.url + path, user, ca)}"]
        all_flags += [flag.replace("{dir}", str(directory)) for flag in flags]
        theirs = [each.replace("{who}", "kubectl") for each in all_flags]
        own = [each.replace("{who}", "pyproxy") for each in all_flags]
        with (
            Kubectl(directory / "kubectl", *theirs) as kubectl,
            Desk(directory / "pyproxy", *own) as ours,
        ):
            assert kubectl.where
            assert ours.where
            yield Two(kubectl, ours, upstream)
