"""Typed requests: one object or all of them, read and written.

No request is repeated here but by `patch_status`, because a conflict asks for a retry.
The code that reconciles owns the back-off.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar

import msgspec

from pyproxy.kube.errors import KubeError
from pyproxy.kube.objects import ListMeta, Object
from pyproxy.kube.resource import Resource
from pyproxy.kube.splitting import Unread
from pyproxy.kube.watching import Selection, pages
from pyproxy.kube.wire import JSON, Params, Wire, malformed

T = TypeVar("T", bound=Object)

PAGE = 500  # objects of a list, as in client-go
QUIET_S = 60.0
CONFLICT_TRIES = 5  # client-go's retry.DefaultRetry
CONFLICT_PAUSE_S = 0.01

PatchKind = Literal["merge", "strategic", "json"]
PATCHES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}
APPLY = "application/apply-patch+yaml"  # JSON is YAML


class Client:
    """Requests for objects over a wire."""

    def __init__(self, wire: Wire, *, manager: str = "pyproxy") -> None:
        """`manager` owns the fields that we write."""
        self.wire = wire
        self._manager = manager

    async def get(self, resource: Resource[T], key: str) -> T:
        """Return the object with a key. Raise KubeError."""
        return await self._call(resource, "GET", resource.path_of(key))

    async def list(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> tuple[T, ...]:
        """Return all objects, as they are now. Raise KubeError.

        One that cannot be read fails the list: the caller would take it for gone.
        """
        selection = Selection(resource, namespace, labels, fields)
        made: list[T] = []
        found = pages(self.wire, selection, PAGE, QUIET_S)
        async with aclosing(found):
            async for each in found:
                if isinstance(each, Unread):
                    raise malformed(f"list {each.metadata.key}", each.why)
                if not isinstance(each, ListMeta):
                    made.append(each)
        return tuple(made)

    async def create(self, resource: Resource[T], made: T) -> T:
        """Create an object and return what has become of it. Raise KubeError."""
        path = resource.path(made.metadata.namespace)
        body = resource.encode(made)
        return await self._call(resource, "POST", path, self._owned(), body)

    async def update(self, resource: Resource[T], made: T) -> T:
        """Replace an object, if its resourceVersion is still this one. Raise KubeError.

        What the struct does not have is lost: for kinds that are ours (Lease).
        """
        path, body = resource.path_of(made.key), resource.encode(made)
        return await self._call(resource, "PUT", path, self._owned(), body)

    async def patch(
        self,
        resource: Resource[T],
        key: str,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
    ) -> T:
        """Change some fields of an object. Raise KubeError."""
        path, raw = resource.path_of(key, subresource), msgspec.json.encode(body)
        return await self._call(
            resource, "PATCH", path, self._owned(), raw, PATCHES[kind]
        )

    async def apply(
        self,
        resource: Resource[T],
        key: str,
        fields: Mapping[str, Any],
        *,
        subresource: str = "",
        force: bool = False,
    ) -> T:
        """Set exactly these fields, in our name (server-side apply). Raise KubeError.

        What we applied before and do not name now is removed. `force` takes fields over
        from their owners.
        """
        namespace, _, name = key.rpartition("/")
        said = fields.get("metadata", {})
        metadata = {**said, "name": name}
        if namespace:
            metadata["namespace"] = namespace
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        raw = msgspec.json.encode({**head, **fields, "metadata": metadata})
        params = {**self._owned(), "force": "true" if force else "false"}
        path = resource.path_of(key, subresource)
        return await self._call(resource, "PATCH", path, params, raw, APPLY)

    async def delete(
        self, resource: Resource[T], key: str, *, uid: str = "", version: str = ""
    ) -> None:
        """Delete an object, if it still has this uid and version. Raise KubeError."""
        said = {"uid": uid, "resourceVersion": version}
        conditions = {name: value for name, value in said.items() if value}
        body = b""
        if conditions:
            body = msgspec.json.encode(
                {
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": conditions,
                }
            )
        # What comes is the object, or a Status: neither is of use.
        await self.wire.call("DELETE", resource.path_of(key), body=body)

    async def patch_status(
        self,
        resource: Resource[T],
        key: str,
        change: Callable[[T], Mapping[str, Any] | None],
        known: T | None = None,
    ) -> T | None:
        """Patch the status of the newest version; return it, None = nothing to change.

        `change` is asked for the patch (merge), with `known` first, and again with what
        there is after each conflict. Raise KubeError.
        """
        for tries_left in reversed(range(CONFLICT_TRIES)):
            found = known if known is not None else await self.get(resource, key)
            patch = change(found)
            if patch is None:
                return None
            version = {"resourceVersion": found.metadata.resource_version}
            metadata = {**patch.get("metadata", {}), **version}
            body = {**patch, "metadata": metadata}
            try:
                return await self.patch(resource, key, body, subresource="status")
            except KubeError as error:
                if not error.is_conflict or not tries_left:
                    raise
            known = None
            await self.wire.clock.sleep(CONFLICT_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    def _owned(self) -> dict[str, str]:
        return {"fieldManager": self._manager}

    async def _call(
        self,
        resource: Resource[T],
        method: str,
        path: str,
        params: Params | None = None,
        body: bytes = b"",
        content_type: str = JSON,
    ) -> T:
        raw = await self.wire.call(method, path, params, body, content_type)
        try:
            return resource.decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise malformed(f"{method} {path}", str(error)) from error
