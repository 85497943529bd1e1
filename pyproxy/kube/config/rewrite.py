"""The one thing that we write into a kubeconfig: new tokens of an auth-provider.

As client-go does it: into the file that defines the user, under a `.lock` beside it.
The file is replaced in one step, so that no reader ever gets half of it.
"""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pyproxy.kube.config.document import parse
from pyproxy.kube.config.files import read


def save_auth_provider(
    files: Sequence[str], user: str, config: Mapping[str, str]
) -> None:
    """Put `config` into the auth-provider of the first `user` in `files`.

    Raise OSError or ValueError; then nothing is written.
    """
    for file in files:
        if not os.path.exists(file):
            continue
        file = os.path.realpath(file)
        with _locked(file):
            raw = read(file)
            document = parse(raw)
            provider = _provider(document, user)
            if provider is not None:
                provider["config"] = dict(config)
                _replace(file, _dump(document, raw))
                return
    raise ValueError(f'no auth-provider of user "{user}" in {", ".join(files)}')


def _provider(document: dict[str, Any], user: str) -> dict[str, Any] | None:
    for entry in document.get("users") or ():
        if entry and entry.get("name") == user:
            found = (entry.get("user") or {}).get("auth-provider")
            return found if isinstance(found, dict) else None
    return None


def _dump(document: dict[str, Any], before: bytes) -> bytes:
    if before.lstrip()[:1] == b"{":
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def _replace(file: str, content: bytes) -> None:
    directory, name = os.path.split(file)
    descriptor, new = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, stat.S_IMODE(os.stat(file).st_mode))
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        os.replace(new, file)
    except BaseException:
        os.unlink(new)
        raise


@contextlib.contextmanager
def _locked(file: str) -> Iterator[None]:
    lock = f"{file}.lock"
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0))
    try:
        yield
    finally:
        os.unlink(lock)
