"""Record golden exchanges anew: `python -m tests.support.record FILE.jsonl`.

Sends the requests of a file of tests/golden, in order, to a fresh kube-apiserver
(realcluster.py) and puts its answers in place of those that stand there.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.support.realcluster import RealCluster, obstacle
from tests.support.replay import Answer, Exchange, Replay, exchanges

KEPT_HEADERS = (
    *("allow", "cache-control", "content-length", "content-type", "retry-after"),
    *("transfer-encoding", "vary", "warning", "x-content-type-options"),
)


def recorded(exchange: Exchange, answer: Answer) -> str:
    """The line of a file for one exchange."""
    headers = {k: v for k, v in answer.headers.items() if k in KEPT_HEADERS}
    is_watch = isinstance(answer.body, list)
    response = {"status": answer.status, "headers": headers}
    response["watch" if is_watch else "body"] = answer.body
    line = {"note": exchange.note, "request": exchange.request, "response": response}
    return json.dumps(line)


async def record(path: Path, cluster: RealCluster) -> list[str]:
    """Send all requests of a file."""
    client = Replay(cluster.url, cluster.ca)
    async with client.session() as session:
        return [
            recorded(exchange, await client.send(session, exchange))
            for exchange in exchanges([path.stem])
        ]


def main() -> None:
    """Record the file that is named on the command line."""
    if why := obstacle():
        raise SystemExit(why)
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name, RealCluster(Path(name)) as cluster:
        lines = asyncio.run(record(path, cluster))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
