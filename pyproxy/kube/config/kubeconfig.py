"""Kubeconfig files: their entries, what a file must not hold, and how files merge.

The rules are client-go's: the first file that defines a name wins whole, the first that
sets current-context wins, and a path belongs to the directory of the file it stands in.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from pyproxy.kube.config.document import read_as
from pyproxy.kube.config.errors import AccessError, not_loaded

MAX_FILE_BYTES = 16 << 20  # a wrong file name must not fill the memory
EXEC_V1 = "client.authentication.k8s.io/v1"
EXEC_V1BETA1 = "client.authentication.k8s.io/v1beta1"
# Written when plugins could not choose yet.
_UNDECIDED = (EXEC_V1BETA1, "client.authentication.k8s.io/v1alpha1")


T = TypeVar("T")


class Base64(bytes):
    """Bytes that stand in the file as base64, possibly folded."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Base of what stands in a kubeconfig. Its repr has no values: some are secret."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Extension(_Entry, frozen=True, kw_only=True):
    """Anything, under a name."""

    name: str = ""
    extension: Any = None


class Cluster(_Entry, frozen=True, kw_only=True):
    """An apiserver and what to trust for it."""

    server: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    certificate_authority: str = ""
    certificate_authority_data: Base64 = Base64()
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: tuple[Extension, ...] = ()


class Variable(_Entry, frozen=True, kw_only=True):
    """One variable for the environment of a plugin."""

    name: str = ""
    value: str = ""


class Exec(_Entry, frozen=True, kw_only=True, rename="camel"):
    """A program that prints credentials."""

    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class AuthProvider(_Entry, frozen=True, kw_only=True):
    """A way to log in that client-go once had built in."""

    name: str = ""
    config: dict[str, str] = msgspec.field(default_factory=dict)


class User(_Entry, frozen=True, kw_only=True):
    """Who we are."""

    client_certificate: str = ""
    client_certificate_data: Base64 = Base64()
    client_key: str = ""
    client_key_data: Base64 = Base64()
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    as_: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    username: str = ""
    password: str = ""
    auth_provider: AuthProvider | None = None
    exec: Exec | None = None
    extensions: tuple[Extension, ...] = ()


class Context(_Entry, frozen=True, kw_only=True):
    """A cluster and a user, by name."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""
    extensions: tuple[Extension, ...] = ()


class _NamedCluster(_Entry, frozen=True, kw_only=True):
    name: str = ""
    cluster: Cluster = Cluster()


class _NamedUser(_Entry, frozen=True, kw_only=True):
    name: str = ""
    user: User = User()


class _NamedContext(_Entry, frozen=True, kw_only=True):
    name: str = ""
    context: Context = Context()


class _Preferences(_Entry, frozen=True, kw_only=True):
    colors: bool = False
    extensions: tuple[Extension, ...] = ()


class _File(_Entry, frozen=True, kw_only=True):
    kind: str = "Config"
    api_version: str = msgspec.field(default="v1", name="apiVersion")
    clusters: tuple[_NamedCluster, ...] = ()
    users: tuple[_NamedUser, ...] = ()
    contexts: tuple[_NamedContext, ...] = ()
    current_context: str = ""
    preferences: _Preferences = _Preferences()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """All entries by name, from one file or merged."""

    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    contexts: Mapping[str, Context] = field(default_factory=dict)
    current_context: str = ""


Loaded = tuple[Kubeconfig, list[str]]  # and what is to be warned of


def candidates(explicit: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files to look for, first one first."""
    if explicit:
        return (explicit,)
    listed = env.get("KUBECONFIG", "")
    if listed:
        return tuple(dict.fromkeys(file for file in listed.split(os.pathsep) if file))
    return (os.path.join(env.get("HOME", ""), ".kube", "config"),)


def load_files(explicit: str, env: Mapping[str, str]) -> Loaded:
    """Read and merge what there is; also return warnings. Raise AccessError."""
    if explicit and not os.path.exists(explicit):
        raise AccessError(f"stat {explicit}: no such file or directory")
    found, missing, complaints = [], [], []
    for file in candidates(explicit, env):
        try:
            found.append(_load_file(file))
        except FileNotFoundError:
            missing.append(file)
        except ValueError as error:
            complaints.append(f'error loading config file "{file}": {error}')
    if complaints:
        raise not_loaded(complaints)
    lost = bool(missing) and not found and bool(env.get("KUBECONFIG"))
    return merge(found), [f"Config not found: {', '.join(missing)}"] if lost else []


def merge(configs: Iterable[Kubeconfig]) -> Kubeconfig:
    """Return one; the first that defines a name wins it whole."""
    configs = tuple(configs)
    return Kubeconfig(
        clusters=_first(config.clusters for config in configs),
        users=_first(config.users for config in configs),
        contexts=_first(config.contexts for config in configs),
        current_context=next(
            (each.current_context for each in configs if each.current_context), ""
        ),
    )


def decode(raw: bytes, directory: str) -> Kubeconfig:
    """Read one file's content, paths relative to `directory`. Raise ValueError."""
    file = read_as(raw, _File, _decode)
    if (file.kind or "Config", file.api_version or "v1") != ("Config", "v1"):
        version = file.api_version or "v1"
        raise ValueError(f'no kind "{file.kind}" is registered for version "{version}"')
    lists = [named.cluster.extensions for named in file.clusters]
    lists += [named.user.extensions for named in file.users]
    lists += [named.context.extensions for named in file.contexts]
    for extensions in (*lists, file.extensions, file.preferences.extensions):
        _by_name("extensions", ((each.name, each) for each in extensions))
    return Kubeconfig(
        clusters=_by_name(
            "clusters", ((n.name, _in(directory, n.cluster)) for n in file.clusters)
        ),
        users=_by_name(
            "users", ((n.name, _user_in(directory, n.user)) for n in file.users)
        ),
        contexts=_by_name("contexts", ((n.name, n.context) for n in file.contexts)),
        current_context=file.current_context,
    )


def _load_file(file: str) -> Kubeconfig:
    """Raise FileNotFoundError, or ValueError saying what else is wrong."""
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise ValueError(f"read {file}: is a directory") from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise ValueError(f"open {file}: {why}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return decode(raw, os.path.abspath(os.path.dirname(file)))


def _first(maps: Iterable[Mapping[str, T]]) -> dict[str, T]:
    merged: dict[str, T] = {}
    for each in maps:
        for name, value in each.items():
            merged.setdefault(name, value)
    return merged


def _by_name(what: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f'duplicate name "{name}" in list of {what}')
        found[name] = value
    return found


def _in(directory: str, cluster: Cluster) -> Cluster:
    authority = _resolve(directory, cluster.certificate_authority)
    return msgspec.structs.replace(cluster, certificate_authority=authority)


def _user_in(directory: str, user: User) -> User:
    return msgspec.structs.replace(
        user,
        client_certificate=_resolve(directory, user.client_certificate),
        client_key=_resolve(directory, user.client_key),
        token_file=_resolve(directory, user.token_file),
        exec=user.exec and _exec_in(directory, user.exec),
    )


def _exec_in(directory: str, spec: Exec) -> Exec:
    mode, command = spec.interactive_mode, spec.command
    if not mode and spec.api_version in _UNDECIDED:
        mode = "IfAvailable"
    if "/" in command:  # else PATH says where it is
        command = _resolve(directory, command)
    return msgspec.structs.replace(spec, interactive_mode=mode, command=command)


def _resolve(directory: str, path: str) -> str:
    if not path or os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(directory, path))


def _decode(kind: type, value: object) -> object:
    """Read bytes as encoding/json does: base64, or a list of numbers."""
    if isinstance(value, list) and all(_is_byte(each) for each in value):
        return Base64(each or 0 for each in value)
    if kind is not Base64 or not isinstance(value, str):
        raise ValueError("Expected base64 text")
    try:
        text = value.replace("\n", "").replace("\r", "")
        return Base64(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("Illegal base64 data") from None


def _is_byte(value: object) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, int) and not isinstance(value, bool) and value in range(256)
    )
