"""How answers leave: headers, compression, refusals."""

import zlib

import msgspec
from aiohttp import web

from pyproxy.sandbox.apiserver.media import JSON, Format, encoded
from pyproxy.sandbox.apiserver.refusal import Refusal
from pyproxy.sandbox.apiserver.schema import Object

COMPRESSED_FROM = 128 << 10  # bytes
HEADERS = {"Cache-Control": "no-cache, private"}
_READ_BY_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
PLAIN = {
    **HEADERS,
    "Content-Type": "text/plain; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
}


def not_served() -> web.Response:
    """404, as the router says it."""
    return web.Response(status=404, text="404 page not found\n", headers=PLAIN)


def refused(refusal: Refusal, request: web.BaseRequest) -> web.Response:
    """Return a Status that says no."""
    answer = write(refusal.status(), Format(), request, refusal.code)
    # As they leave the filters; later refusals go without it.
    if refusal.code == 403 or "without impersonating" in refusal.message:
        answer.headers["X-Content-Type-Options"] = "nosniff"
    if refusal.code == 504:
        answer.headers["Retry-After"] = "1"
    return answer


def write(
    found: Object,
    form: Format,
    request: web.BaseRequest | None = None,
    status: int = 200,
) -> web.Response:
    """Return an answer, compressed when it is long and the client takes it so."""
    body = encoded(found, form.media)
    if form.media == JSON and (status == 406 or _is_for_people(request)):
        body = msgspec.json.format(body.rstrip(), indent=2)
    headers = {**HEADERS, "Content-Type": form.media}
    takes = request.headers.get("Accept-Encoding", "") if request else ""
    if len(body) > COMPRESSED_FROM and "gzip" in takes:
        packer = zlib.compressobj(1, wbits=31)
        body = packer.compress(body) + packer.flush()
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return web.Response(status=status, body=body, headers=headers)


def _is_for_people(request: web.BaseRequest | None) -> bool:
    """Whether somebody looks at it: as kube-apiserver guesses."""
    if request is None:
        return False
    if "pretty" in request.query:
        return request.query["pretty"] not in ("0", "false")
    return request.headers.get("User-Agent", "").startswith(_READ_BY_PEOPLE)
