"""Requests to put to `kubectl proxy` and to us: tables by the flags of the proxy."""

from tests.fakes.recorder import reply


def request(
    path: str, method: str = "GET", *headers: str, host: str = "localhost"
) -> bytes:
    """Return the bytes of a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def with_body(body: bytes, *headers: str, method: str = "POST") -> bytes:
    """Return the bytes of a request with a body."""
    return request("/a", method, *headers, f"Content-Length: {len(body)}") + body


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc")
POD = "/api/v1/namespaces/x/pods/y"

Rows = dict[str, bytes]

PLAIN: Rows = {
    **{
        f"method {method}": request("/a?b=%3D&c;d=%2F+e", method)
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "get", "FOO", "TRACE")
    },
    **{
        f"body {method}": with_body(b"{}", "Content-Type: a/b", method=method)
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET")
    },
    "body empty": with_body(b""),
    "body none": request("/a", "POST"),
    "body chunked": request("/a", "POST", "Transfer-Encoding: chunked")
    + b"3\r\nabc\r\n0\r\n\r\n",
    "own authorization": request("/a", "GET", "Authorization: Bearer mine"),
    "own user agent": request("/a", "GET", "User-Agent: me"),
    "own impersonation": request("/a", "GET", "Impersonate-User: x"),
    "kept headers": request(
        "/a",
        "GET",
        "Cookie: a=b; c=d",
        "Referer: http://x/",
        "Origin: http://x",
        "Audit-ID: 4",
        "X-Forwarded-Host: h",
        "Accept: a/b;q=1, */*",
        "Accept-Encoding: gzip",
        "X-Twice: 1",
        "X-Twice: 2",
        "TE: trailers",
    ),
    "hop-by-hop headers": request(
        "/a",
        "GET",
        "Connection: X-Secret, close",
        "X-Secret: 1",
        "Keep-Alive: 1",
        "Proxy-Connection: 1",
        "Proxy-Authorization: 1",
        "Proxy-Authenticate: 1",
        "TE: gzip",
    ),
    "connection names ours": request(
        "/a", "GET", "Connection: Authorization, X-Forwarded-For"
    ),
    "forwarded for": request(
        "/a", "GET", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2"
    ),
    "http/1.0": b"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "http/1.0 without host": b"GET /a HTTP/1.0\r\n\r\n",
    "absolute form": request("http://localhost/a"),
    "absolute form without path": request("http://localhost"),
    "absolute form of another": request("http://evil.com/a"),
    "CONNECT": request("/a", "CONNECT"),
    "options *": request("*", "OPTIONS"),
}
HOSTS: Rows = {
    f"host {host}": request("/a", host=host)
    for host in (
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost:8001",
        "localhost:",
        "[::1]",
        "[::1]:8001",
        "::1",
        "[::1",
        "[localhost]",
        "[localhost]:1",
        "[0:0:0:0:0:0:0:1]",
        "LOCALHOST",
        "localhost.",
        "xlocalhost",
        "127.0.0.2",
        "127a0b0c1",
        "evil.com",
        "localhost.evil.com",
        "unused",
        "localhost:x:y",
        "",
    )
}
PATHS: Rows = {
    f"path {path}": request(path)
    for path in (
        "/",
        "/api//v1/pods?a=b%3D",
        "/api/./v1",
        "/api/../x",
        "//",
        "/a/..",
        "/a/../",
        "/a/.",
        "/a//?x=<>",
        "/a%2Fb",
        "/a%2Fb//c",
        "/a%2e%2e/b",
        "/%2e%2e/b",
        "/a?",
        "/x;y=1",
        "/a%00b",
        "/%41",
        "/a%3Fb",
        "/a+b",
        "/zz%zz",
        f"{POD}",
        f"{POD}/exec",
        f"{POD}%2Fexec",
        f"{POD}/%65xec",
        f"{POD}/attach",
        f"{POD}/EXEC",
        f"{POD}/execfoo",
        f"{POD}/portforward",
        f"{POD}/log?follow=true",
        "/api/v1/namespaces/x/pods/exec",
        "/api/v1/namespaces/x/pods/attachfoo",
        "/api/v1/x/pods/%C3%A9/exec",
        "/api/v1/x/pods/%ff/exec",
        "/api/v1/x/pods/y%0a/exec",
    )
}
REDIRECTED: Rows = {
    f"redirect {method}": request("/api//v1", method)
    for method in ("HEAD", "POST", "OPTIONS")
}
ANSWERS: Rows = {
    f"answer {path}": request(f"/answer/{path}")
    for path in ("204", "304", "302", "403", "500", "headers", "chunked", "trailers")
} | {"answer none": request("/answer/none"), "answer 101": request("/answer/101")}
UPGRADES: Rows = {
    f"upgrade {path}": request(f"/answer/{path}?a=b", "GET", *UPGRADE)
    for path in ("plain", "302", "403", "500", "none")
} | {
    "upgrade without connection": request("/a", "GET", "Upgrade: websocket"),
    "connection xupgradey": request("/answer/101", "GET", "Connection: xupgradey"),
    "upgrade h2c": request("/a", "GET", "Connection: Upgrade", "Upgrade: h2c"),
}
MALFORMED: Rows = {
    "no host": b"GET /a HTTP/1.1\r\n\r\n",
    "two hosts": request("/a", "GET", "Host: localhost"),
    "host with slash": request("/a", host="a/b"),
    "host with user": request("/a", host="user@localhost"),
    "http/0.9": b"GET /a\r\n\r\n",
    "http/2.0": b"GET /a HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "bad method": request("/a", "GE(T"),
    "space in target": request("/a b"),
    "te unknown": request("/a", "POST", "Transfer-Encoding: xchunked"),
    "cl and te": request(
        "/a", "POST", "Content-Length: 3", "Transfer-Encoding: chunked"
    )
    + b"3\r\nabc\r\n0\r\n\r\n",
    "two cl": request("/a", "POST", "Content-Length: 3", "Content-Length: 4") + b"abcd",
    "space before colon": request("/a", "GET", "X-A : b"),
    "obs-fold": request("/a", "GET", "X-A: b", " c"),
    "bare lf": b"GET /a HTTP/1.1\nHost: localhost\n\n",
    "nul": request("/a", "GET", "X-A: b\0c"),
}
STATIC: Rows = {
    f"static {path}": request(path)
    for path in (
        "/static",
        "/static/",
        "/static/test.txt",
        "/static/test.txt/",
        "/static/test.txt?x=y",
        "/static/none",
        "/static/sub",
        "/static/sub?x",
        "/static/sub/",
        "/static/sub/index.html",
        "/static/dir/",
        "/static/link",
        "/static/escape",
        "/static/%2e%2e/kubeconfig",
        "/static/../x",
        "/staticx",
    )
} | {
    "static evil": request("/static/test.txt", host="evil.com"),
    "static HEAD": request("/static/test.txt", "HEAD"),
    "static POST": request("/static/test.txt", "POST"),
    "static range": request("/static/test.txt", "GET", "Range: bytes=1-3"),
    "static since": request(
        "/static/test.txt", "GET", "If-Modified-Since: Sun, 22 Nov 2037 22:41:25 GMT"
    ),
}
CUSTOM: Rows = {
    f"custom {path}": request(path)
    for path in (
        "/metrics",
        "/api/metrics",
        "/customx",
        "/custom",
        "/custom?x=1",
        "/custom/",
        "/custom/api/metrics",
        "/custom/api/v1/pods/?x",
        "/custom//a",
        "/c%75stom/a",
        "/%2Fcustom/x",
        "/custom/a%2Fb",
        "/custom/a%41b",
        "/custom/%2e%2e/x",
        f"/custom{POD}/exec",
    )
}

TABLES: dict[str, tuple[tuple[str, ...], Rows]] = {
    "default": (
        (),
        {**PLAIN, **HOSTS, **PATHS, **REDIRECTED, **ANSWERS, **UPGRADES, **MALFORMED},
    ),
    "www": (("--www={dir}/www",), STATIC),
    "custom": (("--api-prefix=/custom",), CUSTOM),
    "api": (
        ("--api-prefix=/api/",),
        {
            path: request(path)
            for path in ("/metrics", "/api", "/api/metrics", "/api/v1/pods/")
        },
    ),
    "api-foo": (
        ("--api-prefix=/api-foo/",),
        {path: request(path) for path in ("/api-foo", "/api-foo/x", "/x")},
    ),
    "disabled": (
        ("--disable-filter",),
        {
            "exec": request(f"{POD}/exec", "POST"),
            "evil": request("/a", host="evil.com"),
            "unclean": request("/a//b", host="evil.com"),
        },
    ),
    "lists": (
        ("--accept-hosts=^a{1,3}$,b", "--reject-methods=POST,PUT,PATCH"),
        {
            **{f"host {h}": request("/", host=h) for h in ("a", "a{1", "3}", "xbx")},
            **{f"method {m}": request("/", m, host="b") for m in ("POST", "post")},
        },
    ),
    "empty": (
        ("--accept-hosts=", "--reject-paths="),
        {path: request(path) for path in ("/", f"{POD}/exec", "/a//b")},
    ),
    "relaxed": (
        ("--reject-paths=", "--accept-paths=^/api,^/x$"),
        {path: request(path) for path in (f"{POD}/exec", "/x", "/x%0a", "/y")},
    ),
    "server path": (("--append-server-path",), {p: request(p) for p in ("/", "/a?b")}),
    "no server path": ((), {path: request(path) for path in ("/", "/a")}),
    "unix": (
        ("--unix-socket={dir}/{who}.sock",),
        {
            "localhost": request("/a"),
            "unused": request("/a", host="unused"),
            "forwarded": request("/a", "GET", "X-Forwarded-For: 1.1.1.1"),
        },
    ),
}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
UPSTREAM = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "302": reply("302 Found", b"", "Location: http://evil.com/"),
    "403": reply("403 Forbidden", b"no", "Content-Type: text/plain"),
    "500": reply("500 Internal Server Error", b"bad", "Content-Type: text/plain"),
    "headers": reply(
        "200 OK",
        b"x",
        "Access-Control-Allow-Origin: *",
        "Connection: X-Foo",
        "X-Foo: 1",
        "Keep-Alive: x",
        "Proxy-Authenticate: x",
        "Server: s",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
    ),
    "chunked": CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"Trailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\nraw",
}
