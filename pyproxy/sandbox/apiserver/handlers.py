"""What happens to a request for a resource: its body read, the right thing done."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from pyproxy.sandbox.apiserver import pods, reads, reviews, writes
from pyproxy.sandbox.apiserver.answers import HEADERS, PLAIN, write
from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.kinds import REVIEWS
from pyproxy.sandbox.apiserver.media import JSON, Format, accepted, decoded
from pyproxy.sandbox.apiserver.rbac import denial
from pyproxy.sandbox.apiserver.refusal import (
    bad_request,
    method_not_allowed,
    no_such_resource,
)
from pyproxy.sandbox.apiserver.route import Target, is_true
from pyproxy.sandbox.apiserver.schema import (
    BadField,
    Object,
    check,
    kind_type,
    unknown_fields,
)
from pyproxy.sandbox.apiserver.selectors import selector
from pyproxy.sandbox.apiserver.streams import execute
from pyproxy.sandbox.apiserver.watches import Watch

_DEPRECATED = (
    '299 - "v1 Endpoints is deprecated in v1.33+;'
    ' use discovery.k8s.io/v1 EndpointSlice"'
)
_WARNING = '299 - "{}"'


class Handlers:
    """Everything below /api/v1 and /apis/GROUP/v1."""

    def __init__(
        self, cluster: Cluster, logs: pods.Logs, settle: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._logs = logs
        self._settle = settle  # to be called after each write

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Do what is asked and return the answer.

        Raises:
            Refusal: it is not done.
        """
        answer = await self._answer(request, call)
        if call.target.plural == "endpoints" and not answer.prepared:
            answer.headers["Warning"] = _DEPRECATED
        return answer

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        target = call.target
        if target.subresource not in ("", "status"):
            return await self._subresource(request, call)
        if target.subresource and not call.resource.has_status:
            raise no_such_resource()
        needs_name = target.verb in ("update", "patch")
        if target.verb not in call.resource.verbs or (needs_name and not target.name):
            raise method_not_allowed()
        if target.verb in ("get", "list", "watch"):
            return await self._read(request, call)
        form = accepted(request.headers.get("Accept", ""))
        if target.verb == "create":
            return await self._create(request, call, form)
        if target.verb in ("update", "patch"):
            return await self._change(request, call, form)
        options = await self._options(request)
        if target.verb == "delete":
            found, _ = writes.delete(self._cluster, call, options)
        else:
            found = self._delete_all(call, options)
        self._settle()
        return write(found, form, request)

    async def _read(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        header = request.headers.get("Accept", "")
        form = accepted(header, ("Table", "PartialObjectMetadata"))
        verb = call.target.verb
        if verb == "watch" or (verb == "get" and is_true(call.query, "watch")):
            return await self._watch(request, Watch(self._cluster, call, form.shape))
        read = reads.get if verb == "get" else reads.items
        return write(read(self._cluster, call, form.shape), form, request)

    async def _watch(
        self, request: web.BaseRequest, watch: Watch
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={**HEADERS, "Content-Type": JSON})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for line in watch.lines():
            await answer.write(line)
        await answer.write_eof()
        return answer

    async def _create(
        self, request: web.BaseRequest, call: Call, form: Format
    ) -> web.Response:
        if call.target.name:
            raise method_not_allowed()
        body, headers = await self._body(request, call)
        if call.resource in REVIEWS:
            made = reviews.answer(self._cluster, call, body)
        else:
            made = writes.create(self._cluster, call, body)
            self._settle()
        answer = write(made, form, request, status=201)
        answer.headers.update(headers)
        return answer

    async def _change(
        self, request: web.BaseRequest, call: Call, form: Format
    ) -> web.Response:
        if call.target.verb == "update":
            body, headers = await self._body(request, call)
            made, is_new = writes.update(self._cluster, call, body)
        else:
            media = request.headers.get("Content-Type", "").partition(";")[0]
            raw = decoded(await request.read(), media, "")
            headers = self._checked(call, raw) if isinstance(raw, dict) else {}
            made, is_new = writes.patch(self._cluster, call, media, raw)
        self._settle()
        answer = write(made, form, request, status=201 if is_new else 200)
        answer.headers.update(headers)
        return answer

    async def _body(
        self, request: web.BaseRequest, call: Call
    ) -> tuple[Object, dict[str, str]]:
        kind = call.resource.kind
        media = request.headers.get("Content-Type", "")
        body = decoded(await request.read(), media, kind)
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized")
        body = {"kind": kind, "apiVersion": call.resource.api_version} | body
        if (body["kind"], body["apiVersion"]) != (kind, call.resource.api_version):
            what = f'{body["kind"]} in version "{body["apiVersion"]}"'
            package = call.resource.group.partition(".")[0] or "core"
            how = f"converting (v1.{body['kind']}) to ({package}.{kind})"
            why = f"{how}: unknown conversion"
            raise bad_request(f"{what} cannot be handled as a {kind}: {why}")
        return body, self._checked(call, body)

    def _checked(self, call: Call, body: Object) -> dict[str, str]:
        """Look for fields that do not fit; return the headers that warn of them."""
        kind = call.resource.kind
        what = f'{kind} in version "v1" cannot be handled as a {kind}'
        is_patch = call.target.verb == "patch"
        try:
            if not is_patch:
                check(body, kind_type(kind))
        except BadField as error:
            raise bad_request(f"{what}: {error}") from error
        validation = call.query.get("fieldValidation", "Warn")
        unknown = (
            []
            if validation == "Ignore"
            else list(unknown_fields(body, kind_type(kind)))
        )
        unknown = [text for text in unknown if "$" not in text]
        if unknown and validation == "Strict" and not is_patch:
            listed = ", ".join(unknown)
            raise bad_request(f"{what}: strict decoding error: {listed}")
        texts = [_WARNING.format(text.replace('"', '\\"')) for text in unknown]
        return {"Warning": ", ".join(texts)} if texts else {}

    async def _options(self, request: web.BaseRequest) -> Object:
        body = await request.read()
        media = request.headers.get("Content-Type", "")
        found = decoded(body, media, "DeleteOptions") if body else {}
        return found if isinstance(found, dict) else {}

    def _delete_all(self, call: Call, options: Object) -> Object:
        listed = reads.items(self._cluster, call, "")
        accepts = selector(call.resource, call.query)
        for item in filter(accepts, listed["items"]):
            metadata = item["metadata"]
            space, name = metadata.get("namespace", ""), metadata["name"]
            target = call.target
            one = Target(
                *("delete", "", True, target.group, "v1", target.plural, space, name)
            )
            writes.delete(self._cluster, Call(one, call.query, call.identity), options)
        return listed

    async def _subresource(
        self, request: web.BaseRequest, call: Call
    ) -> web.StreamResponse:
        target = call.target
        served = {name for name, *_ in call.resource.all_subresources()}
        if target.subresource not in served:
            raise no_such_resource()
        if target.subresource == "log":
            return await self._log(request, call)
        if target.subresource == "exec":
            return await self._exec(request, call)
        media = request.headers.get("Content-Type", "")
        body: Any = decoded(await request.read(), media, "TokenRequest")
        if target.subresource == "token" and target.verb == "create":
            made = reviews.issue_token(self._cluster, call, body)
            return write(made, Format(), request, status=201)
        raise method_not_allowed()

    async def _log(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        key = call.target.key
        pod, container = pods.container(self._cluster.store, key, call.query)
        if not pod["spec"].get("nodeName"):
            return web.Response(status=204, headers=HEADERS)
        answer = web.StreamResponse(headers={**PLAIN, "Content-Type": "text/plain"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for line in self._logs.of(key, container["name"]).read(call.query):
            await answer.write(line)
        await answer.write_eof()
        return answer

    async def _exec(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        # A WebSocket begins with GET, but to run something is to create.
        target = call.target
        creates = Target(
            *("create", "", True, "", "v1", "pods"),
            *(target.namespace, target.name, "exec"),
        )
        if not self._cluster.authorizer.decide(call.identity, creates).is_allowed:
            raise denial(call.identity, target, "create")
        key = target.key
        pod, container = pods.container(self._cluster.store, key, call.query)
        pods.check_running(pod, container)
        return await execute(
            request,
            request.query.getall("command", []),
            pods.environment(pod, container),
            self._logs.of(key, container["name"]),
            is_terminal=is_true(call.query, "tty"),
        )
