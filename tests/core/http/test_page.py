"""URLs in pages: which are mapped, and that all else stays byte by byte."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath import Forward, ResponseEdits, TableError
from fastpath.verdict_block import Page
from tests.support.pages import (
    ATTRIBUTES,
    BACKEND,
    FORWARD,
    MORE,
    PREFIX,
    by_bytes,
    rewritten,
)

# "@" stands for the prefix. Sources: apimachinery, pkg/util/proxy/transport_test.go,
# for proxies whose URL has no scheme and host; WHATWG HTML 13.2.5 for tags.
TABLE = {
    "normal": ('<pre><a href="kubernetes.log">k</a></pre>', None),
    "full document": (
        '<html><header></header><body><pre><a href="/x.log">k</a></pre></body></html>',
        '<html><header></header><body><pre><a href="@/x.log">k</a></pre></body></html>',
    ),
    "trailing slash": ('<a href="/x/">k</a>', '<a href="@/x/">k</a>'),
    "subpath": ('<a href="/s/x.log">k</a>', '<a href="@/s/x.log">k</a>'),
    "forwarded prefix": (f'<a href="{PREFIX}/x">', None),
    "backend": ('<a href="http://10.0.0.5:80/x">', '<a href="@/x">'),
    "backend of another port": ('<a href="http://10.0.0.5:81/x">', None),
    "scheme-relative": ('<a href="//10.0.0.5:80/x?a#b">', '<a href="@/x?a#b">'),
    "ours": (
        '<a href="https://bastion.example:8443/x">',
        '<a href="https://bastion.example:8443@/x">',
    ),
    "other": ('<a href="https://elsewhere.example/x">', None),
    "relative": ('<a href="x"><a href="#f"><a href="?q"><a href="../x">', None),
    "other schemes": ('<a href="mailto:a@b"><a href="javascript:f()">', None),
    "unparsable": ('<a href="/%2"><a href="http://[::1/x">', None),
    "dots": ('<a href="/../../x/./y/..">', '<a href="@/x/">'),
    "base": ('<base href="/b/"><a href="c">', '<base href="@/b/"><a href="c">'),
    "query": ('<a href="/x?a=/y&amp;b=1&c">', '<a href="@/x?a=/y&amp;b=1&c">'),
    "ampersand": ('<a href="/a&amp;b&lt/c">', '<a href="@/a&amp;b&lt/c">'),
    "reference": ('<a href="&#x2F;x&#47;y&#x3d;">', '<a href="@/x/y&#x3d;">'),
    "dots by reference": ('<a href="/&#46;&#46;/x">', '<a href="@/x">'),
    "reference not decoded": ('<a href="&#x2Fx"><a href="&#104;ttp:/x">', None),
    "bytes": ('<a href="/é ü\\{{x}}">', '<a href="@/é ü\\{{x}}">'),
    "single": ("<a href='/x\"y'>", "<a href='@/x\"y'>"),
    "unquoted": ("<A HREF=/x>u</A><a href=/y/>", "<A HREF=@/x>u</A><a href=@/y/>"),
    "blanks": ('<a\nhref \t=\f" /x\n">', '<a\nhref \t=\f" @/x\n">'),
    "cases": ('<ImG sRc="/x">', '<ImG sRc="@/x">'),
    "no blank": ("<a title='x'href='/x'>", "<a title='x'href='@/x'>"),
    "slashes": ('<a/href="/x"/>', '<a/href="@/x"/>'),
    "odd names": ('<a =href="/x" href"="/x" hre=f="/x">', None),
    "twice": ('<a href="/x" href="/y">', '<a href="@/x" href="@/y">'),
    "empty": ('<a href=""><a href=><a href>', None),
    "more than a sign": (
        '<a title="><a href=/no>" href="/x">',
        '<a title="><a href=/no>" href="@/x">',
    ),
    "no tags": ("a < b <3 </ <> </> <a", None),
    "end tag": ('</a href="/x">', None),
    "comment": (
        '<!-- <a href="/x"> --><!--><a href="/y">',
        '<!-- <a href="/x"> --><!--><a href="@/y">',
    ),
    "comment ends": (
        "<!--a--!><a href=/x><!---><a href=/y><!--!><a href=/z>-->",
        "<!--a--!><a href=@/x><!---><a href=@/y><!--!><a href=/z>-->",
    ),
    "bogus": (
        '<!a <b href="/x"><?php "<a href=/y>"><a href=/z></3 <a href=/w>',
        '<!a <b href="/x"><?php "<a href=/y>"><a href=@/z></3 <a href=/w>',
    ),
    "doctype": (
        '<!DOCTYPE html "<a href=/x"><a href=/y>',
        '<!DOCTYPE html "<a href=/x"><a href=@/y>',
    ),
    "cdata": (
        "<![CDATA[ <a href=/x> ]]><a href=/y>",
        "<![CDATA[ <a href=/x> ]]><a href=@/y>",
    ),
    "foreign cdata": (
        "<svg><![CDATA[ > <a href=/x> ]]> ]]><a href=/y></svg><![CDATA[><a href=/z>",
        "<svg><![CDATA[ > <a href=/x> ]]> ]]><a href=@/y></svg><![CDATA[><a href=@/z>",
    ),
    "script": (
        '<script src="/x">"<a href=\'/y\'>" </scripts </script ><a href="/z">',
        '<script src="@/x">"<a href=\'/y\'>" </scripts </script ><a href="@/z">',
    ),
    "script in comment": (
        "<script><!-- <script> </script> <a href=/x> --> </script><a href=/y>",
        "<script><!-- <script> </script> <a href=/x> --> </script><a href=@/y>",
    ),
    "script not in comment": (
        "<script><!-- </script><a href=/x><script><!--> <script> </script><p cite=/y>",
        "<script><!-- </script><a href=@/x><script><!--> <script> </script><p cite=/y>",
    ),
    "end of script": (
        '<script></script a="><b" ><a href=/x>',
        '<script></script a="><b" ><a href=@/x>',
    ),
    "title": (
        "<title><a href=/x></title><a href=/y>",
        "<title><a href=/x></title><a href=@/y>",
    ),
    "plaintext": ("<plaintext></plaintext><a href=/x>", None),
    "foreign title": (
        "<svg><title><a href=/x></title></svg>",
        "<svg><title><a href=@/x></title></svg>",
    ),
    "foreign script": (
        "<svg><script/><a href=/x></svg>",
        "<svg><script/><a href=@/x></svg>",
    ),
    "foreign closed": (
        "<svg><p><script><a href=/x></script><a href=/y>",
        "<svg><p><script><a href=/x></script><a href=@/y>",
    ),
    "svg": (
        '<svg><use xlink:href="/s#i"/><image href="/i"></svg>',
        '<svg><use xlink:href="@/s#i"/><image href="@/i"></svg>',
    ),
    "srcset": (
        '<img srcset="/a.png 2x,/b.png, c.png ,/d,e w(,) , data:,/x 1x">',
        '<img srcset="@/a.png 2x,@/b.png, c.png ,@/d,e w(,) , data:,/x 1x">',
    ),
    "refresh": (
        "<meta http-equiv=refresh content=\"0; URL='/x'\"><meta content='5,url=/y'>",
        "<meta http-equiv=refresh content=\"0; URL='@/x'\"><meta content='5,url=@/y'>",
    ),
    "no refresh": (
        '<meta content="/x"><meta content="5"><meta content="width=1">',
        None,
    ),
    "cut": ('<a href="/x', None),
    "cut tag": ("<a href", None),
}


@pytest.mark.parametrize("name", TABLE)
def test_page_is_rewritten(name: str) -> None:
    before, after = TABLE[name]
    expected = (after or before).replace("@/", f"{PREFIX}/") if after else before
    page = before.encode()
    assert rewritten(page) == expected.encode()
    assert by_bytes(page) == expected.encode()


NOT = "a.src div.href img.href p.cite style.src meta.url td.background x.data"


@pytest.mark.parametrize("name", [*ATTRIBUTES, *MORE, *NOT.split()])
def test_attribute_is_rewritten_or_not(name: str) -> None:
    tag, _, attribute = name.partition(".")
    page = f'<{tag} x="/x" {attribute}="/x" y>'
    expected = page.replace(f'{attribute}="', f'{attribute}="{PREFIX}')
    assert rewritten(page.encode()).decode() == (
        page if name in NOT.split() else expected
    )


def test_value_that_is_too_long_stays_and_is_counted() -> None:
    fits, long = "/" + "a" * 8191, "/" + "b" * 8192
    page = f'<a href="{fits}"><a href="{long}"><a href="/c">'.encode()
    expected = f'<a href="{PREFIX}{fits}"><a href="{long}"><a href="{PREFIX}/c">'
    for size in (len(page), 1000):
        rewriter = Page(FORWARD, BACKEND)
        pieces = [page[at : at + size] for at in range(0, len(page), size)]
        got = [each for piece in pieces for each in rewriter.feed(piece)]
        assert b"".join(got + rewriter.end()).decode() == expected
        assert rewriter.untouched == 1


def test_srcset_that_grows_too_long_stays_and_is_counted() -> None:
    rewriter = Page(FORWARD, BACKEND)
    page = b'<img srcset="' + b"/a, " * 1000 + b'">'
    assert b"".join(rewriter.feed(page) + rewriter.end()) == page
    assert rewriter.untouched == 1


def test_data_url_is_not_held_back_however_long() -> None:
    rewriter = Page(FORWARD, BACKEND)
    start = b'<img src="data:image/png;base64,' + b"A" * 20_000
    assert b"".join(rewriter.feed(start)) == start
    assert rewriter.untouched == 0


def test_only_a_value_in_work_is_held_back() -> None:
    rewriter = Page(FORWARD, BACKEND)
    seen = [b"".join(rewriter.feed(bytes([c]))) for c in b'<a href="/x">y<b c="/z">']
    assert seen[:10] == [*(bytes([c]) for c in b'<a href="'), b""]
    assert seen[10] == b""
    assert seen[11] == f'{PREFIX}/x"'.encode()
    assert b"".join(seen[12:]) == b'>y<b c="/z">'


def test_paths_that_a_page_would_escape_are_refused() -> None:
    for path in ("/a&b", "/a'b"):
        ResponseEdits(location=(("/", path),))
        with pytest.raises(TableError, match="HTML"):
            ResponseEdits(location=(("/", path),), html=True)


def test_mapping_is_that_of_the_verdict() -> None:
    edits = ResponseEdits(location=(("/base", "/"), ("/", "/x")), html=True)
    page = b'<a href="/base"><a href="/base/a"><a href="/b">'
    expected = b'<a href="/"><a href="/a"><a href="/x/b">'
    assert rewritten(page, forward=Forward("up", response=edits)) == expected


# ---- Pieces and codings.

PIECES = st.lists(
    st.sampled_from(
        [
            *("<a href=", "<img srcset=", "<meta content=", "<script>", "</script>"),
            *("<!--", "-->", '"', "'", ">", "/x", "/é", " ", "=", "<", "&#47;", "1x, "),
            *("5;url=", "<svg>", "</svg>", "<![CDATA[", "]]>", "<title>", "</title>"),
            *("<plaintext>", "http://10.0.0.5:80/", "text", "\n", "/", "!", "-"),
        ]
    ),
    max_size=40,
).map(lambda parts: "".join(parts).encode())


def coded(page: bytes, coding: str) -> bytes:
    """A page as a server sends it."""
    if coding == "gzip":
        return gzip.compress(page)
    raw = zlib.compressobj(wbits=15 if coding == "deflate" else -15)
    return raw.compress(page) + raw.flush()


@given(PIECES, st.lists(st.integers(0, 30), max_size=20), st.integers(1, 60))
def test_pieces_and_room_make_no_difference(
    page: bytes, sizes: list[int], room: int
) -> None:
    assert rewritten(page, *sizes, room=room) == by_bytes(page) == rewritten(page)


@given(
    PIECES,
    st.lists(st.integers(0, 30), max_size=20),
    st.sampled_from(["gzip", "deflate", "raw"]),
    st.integers(16, 60),
    st.integers(1, 100),
)
def test_coding_makes_no_difference(
    page: bytes, sizes: list[int], coding: str, room: int, most: int
) -> None:
    name = "deflate" if coding == "raw" else coding
    got = rewritten(coded(page, coding), *sizes, coding=name, room=room, most=most)
    plain = gzip.decompress(got) if coding == "gzip" else zlib.decompress(got)
    assert plain == rewritten(page)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "more", "text"])
def test_coding_that_is_wrong_is_told(coding: str, damage: str) -> None:
    page = coded(bytes(range(256)) * 40, coding)
    damaged = {
        "cut": page[:-1],
        "flipped": page[:15] + bytes([page[15] ^ 255]) + page[16:],
        "more": page + b"more",
        "text": b"<html>plain text</html>",
    }[damage]
    if (coding, damage) == ("raw", "flipped"):
        damaged = b"\xff" + page[1:]  # it has no checksum, but this block type is none
    with pytest.raises(ValueError, match="coding"):
        rewritten(damaged, coding="gzip" if coding == "gzip" else "deflate")


def test_gzip_of_several_members_is_one_page() -> None:
    page = gzip.compress(b"<a href=") + gzip.compress(b"") + gzip.compress(b"/x>")
    expected = f"<a href={PREFIX}/x>".encode()
    assert gzip.decompress(rewritten(page, coding="gzip")) == expected
    assert gzip.decompress(by_bytes(page, coding="gzip")) == expected


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_empty_body_has_no_coding_to_be_wrong(coding: str) -> None:
    got = rewritten(b"", coding=coding)
    plain = gzip.decompress(got) if coding == "gzip" else zlib.decompress(got)
    assert plain == b""


def test_compressed_page_is_passed_on_as_it_comes() -> None:
    source = zlib.compressobj(wbits=31)
    rewriter = Page(FORWARD, BACKEND, "gzip")
    reader = zlib.decompressobj(wbits=31)
    for number in range(5):
        line = f"<a href=/{number}>".encode()
        sent = source.compress(line) + source.flush(zlib.Z_SYNC_FLUSH)
        seen = reader.decompress(b"".join(rewriter.feed(sent)))
        assert seen == f"<a href={PREFIX}/{number}>".encode()


def test_bomb_is_inflated_no_further_than_there_is_room() -> None:
    # 32 MiB of blanks in 32 KiB: what a step brings is bounded, and so is its work.
    bomb = gzip.compress(b" " * (32 << 20))
    rewriter = Page(FORWARD, BACKEND, "gzip", 4096, 1 << 16)
    got = rewriter.feed(bomb)
    assert all(len(piece) <= 4096 for piece in got)
    assert len(got) > (32 << 20) // (2 << 16)
    assert len(gzip.decompress(b"".join(got + rewriter.end()))) == 32 << 20
