"""Pages whose URLs the core maps, without an engine."""

from fastpath import Forward, ResponseEdits
from fastpath.verdict_block import Page

PREFIX = "/api/v1/namespaces/n/services/s/proxy"
BACKEND = "10.0.0.5:80"
OURS = "bastion.example:8443"
EDITS = ResponseEdits(location=(("/", PREFIX),), hosts=(OURS,), html=True)
FORWARD = Forward("up", response=EDITS)
# Source: the tags and attributes of the API server's proxy (transport.go).
ATTRIBUTES = """
    a.href applet.codebase area.href audio.src base.href blockquote.cite
    body.background button.formaction command.icon del.cite embed.src form.action
    frame.longdesc frame.src head.profile html.manifest iframe.longdesc iframe.src
    img.longdesc img.src img.usemap input.src input.usemap input.formaction ins.cite
    link.href object.classid object.codebase object.data object.usemap q.cite
    script.src source.src video.poster video.src
""".split()
# Beyond.
MORE = """
    img.srcset source.srcset link.imagesrcset track.src use.href use.xlink:href
    image.href
""".split()
# Without escapes in paths, which the API server decodes and we do not.
URLS = (
    *("/x", "/x/", "/", "/a/../b", "/a//b", "/x?a=/b&amp;c=d#/e", "/%2"),
    *("//elsewhere.example/x", "https://elsewhere.example/x", "x", "../x", "?q", "#f"),
    *("", "mailto:a@b", "data:,x", "javascript:f(/x/)", "/a;b=c", "/a&amp;b"),
)


def plain_page() -> bytes:
    """Every attribute with every URL, as the API server would write the tags."""
    tags = []
    for name in ATTRIBUTES:
        tag, _, attribute = name.partition(".")
        end = f"</{tag}>" if tag in ("script", "iframe") else ""
        tags += [f'<{tag} id="x" {attribute}="{url}">{end}' for url in URLS]
    texts = (
        '<!-- <a href="/x"> --><script>"<a href=\\"/x\\">"</script><title>/x</title>'
    )
    return "\n".join(["<!doctype html>", *tags, texts]).encode()


def rewritten(
    page: bytes,
    *sizes: int,
    coding: str = "",
    room: int = 32768,
    most: int = 1 << 40,
    forward: Forward = FORWARD,
) -> bytes:
    """What a client reads of a page that comes in pieces, the last of any size.

    Raises:
        ValueError: it is not what its coding says.
    """
    rewriter = Page(forward, BACKEND, coding, room, most)
    got = []
    for size in sizes:
        got += rewriter.feed(page[:size])
        page = page[size:]
    got += rewriter.feed(page)
    assert all(len(piece) <= room for piece in got)
    return b"".join(got + rewriter.end())


def by_bytes(page: bytes, **more: object) -> bytes:
    """As rewritten, a byte at a time."""
    return rewritten(page, *[1] * len(page), **more)  # type: ignore[arg-type]
