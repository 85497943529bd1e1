"""Expectations: Go's file server behind kubectl 1.37.1, less what we leave out."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pyproxy.http.files import Directory, File, Found, Listing, Moved, Nothing
from pyproxy.http.static import StaticFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to show, with a secret beside it."""
    root = tmp_path / "www"
    for name, content in {
        "test.txt": "This is test data",
        "sub/index.html": "<p>hi",
        "dir/a<b>.txt": "x",
        "dir/c:d": "x",
        ".dot": "dot",
        "x.js": "1",
        "y.json": "{}",
        "a b.txt": "sp",
        "plain": "words\n",
        "a.tar.gz": "x",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "binary").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "www-not").mkdir()
    (tmp_path / "www-not" / "x").write_text("secret")
    (root / "escape").symlink_to(tmp_path / "secret")
    (root / "updir").symlink_to(tmp_path)
    (root / "beside").symlink_to(tmp_path / "www-not")
    (root / "link").symlink_to("test.txt")
    (root / "linkdir").symlink_to("sub")
    (root / "loop").symlink_to("loop")
    (root / "badindex").mkdir()
    (root / "badindex" / "index.html").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "fifo")
    return root


TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/test.txt", ("test.txt", TEXT)),
        ("/test.txt/", Moved("../test.txt")),
        ("/test.txt%2F", Moved("../test.txt")),
        ("/sub", Moved("sub/")),
        ("/sub/", ("sub/index.html", "text/html; charset=utf-8")),
        ("/sub/index.html", Moved("./")),
        ("/sub%2Findex.html", Moved("./")),
        ("/index.html", Moved("./")),
        ("/dir", Moved("dir/")),
        ("/dir/", Nothing()),
        ("/", Nothing()),
        ("/.dot", (".dot", TEXT)),
        ("/x.js", ("x.js", "text/javascript; charset=utf-8")),
        ("/y.json", ("y.json", "application/json")),
        ("/a.tar.gz", ("a.tar.gz", "application/gzip")),
        ("/a%20b.txt", ("a b.txt", TEXT)),
        ("/a%20b.txt/", Moved("../a%20b.txt")),
        ("/plain", ("plain", TEXT)),
        ("/binary", ("binary", "application/octet-stream")),
        ("/link", ("test.txt", TEXT)),
        ("/linkdir/", ("sub/index.html", "text/html; charset=utf-8")),
        ("/none", Nothing()),
        ("/none/", Nothing()),
        ("/test.txt/x", Nothing()),
        ("/a%00b", Nothing()),
        ("/%ff", Nothing()),
        ("/" + "x" * 300, Nothing()),
        # What follows is beyond kubectl.
        ("/escape", Nothing()),
        ("/updir/", Nothing()),
        ("/updir/secret", Nothing()),
        ("/beside/x", Nothing()),
        ("/badindex/", Nothing()),
        ("/loop", Nothing()),
        ("/fifo", Nothing()),
        ("/%2e%2e/secret", Nothing()),
        ("/..%2fsecret", Nothing()),
        ("/sub/%2e%2e/test.txt", Nothing()),
    ],
)
def test_find_names_what_may_be_shown(
    root: Path, path: str, found: Found | tuple[str, str]
) -> None:
    got = Directory(str(root)).find(path)
    if not isinstance(found, tuple):
        assert got == found
        return
    assert isinstance(got, File)
    with got.file as file:
        assert os.path.samestat(os.fstat(file.fileno()), os.stat(root / found[0]))
    assert got.type == found[1]


def test_find_in_listed_directory_escapes_names(root: Path) -> None:
    found = Directory(str(root), listing=True).find("/dir/")
    assert found == Listing(
        '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n'
        '<a href="a%3Cb%3E.txt">a&lt;b&gt;.txt</a>\n<a href="./c%3Ad">c:d</a>\n</pre>\n'
    )


def test_find_without_directory_finds_nothing(tmp_path: Path) -> None:
    directory = Directory(str(tmp_path / "later"))
    assert directory.find("/x") == Nothing()
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x.json").write_text("{}")
    found = directory.find("/x.json")
    assert isinstance(found, File)
    found.file.close()


def test_find_in_what_is_a_file_finds_nothing(root: Path) -> None:
    directory = Directory(str(root / "test.txt"))
    assert directory.find("/test.txt") == Nothing()
    assert not isinstance(directory.find("/"), File)


@pytest.fixture
async def socket(root: Path) -> AsyncIterator[str]:
    """Where the files are served."""
    files = StaticFiles(Directory(str(root)))
    path = await files.open()
    yield path
    await files.close()
    assert not Path(path).parent.exists()
    await files.close()


async def get(
    socket: str, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask for a path."""
    connector = aiohttp.UnixConnector(socket)
    async with aiohttp.ClientSession(connector=connector) as session:
        request = session.request(
            method, f"http://x{path}", headers=headers, allow_redirects=False
        )
        async with request as answer:
            return answer.status, dict(answer.headers), await answer.read()


async def test_socket_is_for_this_user_only(socket: str) -> None:
    place = os.stat(os.path.dirname(socket))
    assert stat.S_IMODE(place.st_mode) == 0o700


async def test_file_is_sent_whole_and_typed(socket: str) -> None:
    status, headers, body = await get(socket, "/test.txt?x=y")
    assert (status, body) == (200, b"This is test data")
    assert headers["Content-Type"] == TEXT
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Last-Modified"]


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_file_is_sent_whatever_the_method(socket: str, method: str) -> None:
    one, other = [await get(socket, "/test.txt", verb) for verb in (method, "GET")]
    assert one[1].pop("Date")  # of another second, it may be
    assert other[1].pop("Date")
    assert one == other
    assert one[0] == 200


async def test_head_is_answered_without_body(socket: str) -> None:
    status, headers, body = await get(socket, "/test.txt", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "17", b"")


@pytest.mark.parametrize(
    ("range_", "status", "body"),
    [
        ("bytes=1-3", 206, b"his"),
        ("bytes=-4", 206, b"data"),
        ("bytes=13-", 206, b"data"),
        ("bytes=100-", 416, b""),
        # kubectl sends several as multipart, and 416 for what is none.
        ("bytes=0-1,3-4", 200, b"This is test data"),
        ("bytes=x", 200, b"This is test data"),
    ],
)
async def test_range_is_honoured(
    socket: str, range_: str, status: int, body: bytes
) -> None:
    answer = await get(socket, "/test.txt", Range=range_)
    assert (answer[0], answer[2]) == (status, body)


async def test_condition_that_holds_saves_the_body(socket: str) -> None:
    _, headers, _ = await get(socket, "/test.txt")
    since = {"If-Modified-Since": headers["Last-Modified"]}
    assert (await get(socket, "/test.txt", **since))[0] == 304
    assert (await get(socket, "/test.txt", **{"If-None-Match": headers["Etag"]}))[
        0
    ] == 304
    assert (await get(socket, "/test.txt", **{"If-None-Match": '"other"'}))[0] == 200


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [("/sub?a=b", 301, "sub/?a=b"), ("/none", 404, None), ("/escape", 404, None)],
)
async def test_other_paths_lead_elsewhere_or_nowhere(
    socket: str, path: str, status: int, location: str | None
) -> None:
    answer = await get(socket, path)
    assert (answer[0], answer[1].get("Location")) == (status, location)
    if status == 404:
        assert answer[2] == b"404 page not found\n"


async def test_redirect_of_odd_names_adds_no_header(socket: str, root: Path) -> None:
    await asyncio.to_thread((root / "a\r\nSet-Cookie: x").mkdir)
    _, headers, _ = await get(socket, "/a%0d%0aSet-Cookie:%20x")
    assert headers["Location"] == "a%0D%0ASet-Cookie%3A%20x/"
    assert "Set-Cookie" not in headers
