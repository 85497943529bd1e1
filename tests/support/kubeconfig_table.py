"""What kubectl reads in kubeconfigs: a table of values, and one of whole files.

`python -m tests.support.kubeconfig_table` puts every row to kubectl again and writes
the tables anew; a row to add needs its input alone.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyproxy.kube.config.kubeconfig import Cluster, Kubeconfig, User, decode
from tests.fakes.kubectl import ask, environment

GOLDEN = Path(__file__).parents[1] / "golden"
VALUES, FILES = GOLDEN / "kubeconfig-values.jsonl", GOLDEN / "kubeconfig-files.jsonl"

Json = Any
Row = dict[str, Json]


def _in_cluster(text: str) -> str:
    return f"clusters:\n- name: c\n  cluster:\n   {text}\n"


def _in_user(text: str) -> str:
    return f"users:\n- name: u\n  user:\n   {text}\n"


# Kind of a field -> a file around a value.
FIELDS: dict[str, Callable[[str], str]] = {
    "bool": lambda v: _in_cluster(f"insecure-skip-tls-verify: {v}"),
    "string": lambda v: _in_cluster(f"tls-server-name: {v}"),
    "list": lambda v: _in_user(f"as-groups: {v}"),
    "item": lambda v: _in_user(f"as-groups: [x, {v}]"),
    "bytes": lambda v: _in_cluster(f"certificate-authority-data: {v}"),
    "struct": lambda v: _in_user(f"exec: {v}"),
    "map": lambda v: _in_user(f"as-user-extra: {v}"),
    "key": lambda v: _in_user(f"as-user-extra: {{ {v}: [v] }}"),
    "any": lambda v: _in_cluster(f"extensions: [{{name: e, extension: {{v: {v} }} }}]"),
}


def raw_of(row: Row) -> bytes:
    """Return the file that a row is about."""
    if "field" in row:
        return FIELDS[row["field"]](row["text"]).encode()
    return base64.b64decode(row["base64"]) if "base64" in row else row["raw"].encode()


def ours(raw: bytes) -> Json:
    """Return what we read; None = it is refused."""
    try:
        found = decode(raw, "")
    except ValueError:
        return None
    return _ours(found)


def _ours(found: Kubeconfig) -> Json:
    return _less(
        {
            "clusters": {n: _our_cluster(c) for n, c in found.clusters.items()},
            "users": {n: _our_user(u) for n, u in found.users.items()},
            "contexts": {n: c.cluster for n, c in found.contexts.items()},
            "current-context": found.current_context,
        }
    )


def _our_cluster(cluster: Cluster) -> Json:
    return _less(
        {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "certificate-authority-data": base64.b64encode(
                cluster.certificate_authority_data
            ).decode(),
            "extensions": [[e.name, e.extension] for e in cluster.extensions],
        }
    )


def _our_user(user: User) -> Json:
    found: dict[str, Json] = {
        "as-groups": list(user.as_groups),
        "as-user-extra": {k: list(v) for k, v in user.as_user_extra.items()},
    }
    if user.exec is not None:
        found["exec"] = _less(
            {
                "command": user.exec.command,
                "args": list(user.exec.args),
                "env": [[each.name, each.value] for each in user.exec.env],
                "provideClusterInfo": user.exec.provide_cluster_info,
            }
        )
    if user.auth_provider is not None:
        config = {k: v for k, v in user.auth_provider.config.items() if v}
        found["auth-provider"] = [user.auth_provider.name, config]
    return {key: v for key, v in found.items() if v or key == "exec"}


def theirs(raw: bytes, directory: Path) -> Json:
    """Return what kubectl reads, in the same shape."""
    file = directory / "config"
    file.write_bytes(raw)
    env = environment(directory, KUBECONFIG=str(file))
    code, out, _ = ask("config", "view", "--raw", "-o", "json", env=env)
    if code:
        return None
    found = json.loads(out)
    return _less(
        {
            "clusters": {
                each["name"]: _their_cluster(each["cluster"])
                for each in found["clusters"] or ()
            },
            "users": {
                each["name"]: _their_user(each["user"]) for each in found["users"] or ()
            },
            "contexts": {
                each["name"]: each["context"]["cluster"]
                for each in found["contexts"] or ()
            },
            "current-context": found["current-context"],
        }
    )


def _their_cluster(cluster: Json) -> Json:
    fields = (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority-data",
    )
    extensions = cluster.get("extensions") or ()
    return _less(
        {
            **{name: cluster.get(name) for name in fields},
            "extensions": [[e["name"], e["extension"]] for e in extensions],
        }
    )


def _their_user(user: Json) -> Json:
    spec, provider = user.get("exec"), user.get("auth-provider")
    extra = (user.get("as-user-extra") or {}).items()
    found = {
        "as-groups": user.get("as-groups"),
        "as-user-extra": {key: value or [] for key, value in extra},
    }
    if spec is not None:
        variables = spec["env"] or ()
        found["exec"] = _less(
            {
                "command": spec["command"],
                "args": spec["args"],
                "env": [[each["name"], each["value"]] for each in variables],
                "provideClusterInfo": spec["provideClusterInfo"],
            }
        )
    if provider is not None:
        config = {k: v for k, v in (provider["config"] or {}).items() if v}
        found["auth-provider"] = [provider["name"], config]
    return {key: v for key, v in found.items() if v or key == "exec"}


def _less(fields: dict[str, Json]) -> dict[str, Json]:
    """Leave out what is empty."""
    return {name: value for name, value in fields.items() if value}


def rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a table."""
    for line in file.read_text().split("\n")[:-1]:
        yield json.loads(line)


def main() -> None:
    """Ask kubectl again."""
    with tempfile.TemporaryDirectory() as directory:
        for file in (VALUES, FILES):
            asked = [
                {**row, "read": theirs(raw_of(row), Path(directory))}
                for row in rows(file)
            ]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in asked]
            file.write_text("".join(lines))


if __name__ == "__main__":
    main()
