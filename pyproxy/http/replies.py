"""What we answer ourselves, to the byte as `kubectl proxy` does where it does."""

from urllib.parse import quote

from pyproxy.dataplane import Question, Reply

_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_HTML = ("Content-Type", "text/html; charset=utf-8")
# Go spells quotes as numbers.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
)
# What may stand in a Location as it came. Not the backslash: browsers read it as a
# slash, and `/\\evil.example/` as another host.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("\\", "")


def plain(status: int, text: str) -> Reply:
    """Return an error as Go's http.Error writes it."""
    return Reply(status, f"{text}\n".encode(), (_TEXT, _NOSNIFF))


FORBIDDEN = plain(403, "Forbidden")
NOT_FOUND = plain(404, "404 page not found")
CROSS_SITE = plain(
    403, "Forbidden: sent by a page of another origin (see --allow-cross-site)"
)
BAD_REQUEST = Reply(400, b"400 Bad Request", (_TEXT,), close=True)


def of_json(body: str) -> Reply:
    """Return a document."""
    return Reply(200, body.encode(), (("Content-Type", "application/json"), _NOSNIFF))


def of_asterisk(method: str) -> Reply:
    """Answer `OPTIONS *`, which asks about the server, and nothing else about it."""
    return Reply(200) if method == "OPTIONS" else Reply(400, close=True)


def redirect(question: Question, path: str) -> Reply:
    """Send the client to `path`, which is as it came, with the query that it had."""
    query = question.query if len(question.query) > 1 else ""
    # Nothing that was escaped is decoded: no new line can come into the head.
    location = quote(f"{path}{query}".encode("latin-1"), safe=_PRINTABLE)
    headers: tuple[tuple[str, str], ...] = (("Location", location),)
    body = ""
    if question.method in ("GET", "HEAD"):
        headers = (_HTML, *headers)
    if question.method == "GET":
        link = location.translate(_ESCAPES)
        body = f'<a href="{link}">Temporary Redirect</a>.\n\n'
    return Reply(307, body.encode(), headers)
