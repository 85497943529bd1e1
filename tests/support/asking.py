"""Questions as the core asks them, for tests of policies."""

from pyproxy.dataplane import Certificate, Question


def ask(
    target: str = "/",
    method: str = "GET",
    host: str = "localhost:8001",
    *headers: str,
    upgrade: str = "",
    refused: int = 0,
    source: str = "127.0.0.1",
    certificate: Certificate | None = None,
) -> Question:
    """Return the question about a request; headers as `Name: value`."""
    path, mark, query = target.partition("?")
    pairs = [each.partition(": ") for each in headers]
    return Question(
        ticket=(0, 0, 0, 0, 0),
        vip=("tcp", "127.0.0.1", 8001),
        source=source,
        method=method,
        target=target,
        path=path,
        query=mark + query,
        host=host,
        minor=1,
        upgrade=upgrade,
        body=False,
        refused=refused,
        headers=(("Host", host), *((name, value) for name, _, value in pairs)),
        certificate=certificate,
    )
