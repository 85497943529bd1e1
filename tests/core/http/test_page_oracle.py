"""Pages as a browser reads them, before and after: html5lib is the second opinion.

Both are parsed to a tree by the rules of browsers. The trees must be the same but for
the attributes with URLs, and those must be what a plain program makes of them.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.http.test_filter_fuzz import location
from tests.support.pages import ATTRIBUTES, EDITS, MORE, rewritten

html5lib = pytest.importorskip("html5lib", reason="pip's group `test` brings it")

WANTED = {*ATTRIBUTES, *MORE}
LISTS = ("srcset", "imagesrcset")
REFRESH = re.compile(r"([\s\d.]*[;,]?\s*url[\s=]*['\"]?)([^'\"]*)(.*)", re.S | re.I)
CANDIDATE = re.compile(r"([ \t\n\r\f,]*)([^ \t\n\r\f]+)")
DESCRIPTORS = re.compile(r"(?:\([^)]*\)?|[^,(])*")
XLINK = "{http://www.w3.org/1999/xlink}"
# White space of HTML, which is more than that of XML and less than that of Python.
SPACES = " \t\n\r\f"


def mapped(name: str, value: str) -> str:
    """What becomes of the value of an attribute."""
    if name == "meta.content":
        found = REFRESH.fullmatch(value)
        return found[1] + one(found[2]) + found[3] if found else value
    if name not in WANTED:
        return value
    if name.split(".")[1] not in LISTS:
        return one(value)
    return candidates(value)


def candidates(value: str) -> str:
    """What becomes of a srcset: WHATWG HTML 4.8.4.2."""
    made = []
    while found := CANDIDATE.match(value):
        blanks, url = found.groups()
        bare = url.rstrip(",")
        made += [blanks, one(bare), url[len(bare) :]]
        value = value[found.end() :]
        if bare == url and (descriptors := DESCRIPTORS.match(value)):
            made.append(descriptors[0])
            value = value[descriptors.end() :]
    return "".join([*made, value])


def one(value: str) -> str:
    """What becomes of a URL with blanks around."""
    bare = value.strip(SPACES)
    return value.replace(bare, location(bare, EDITS.location, raw=True), 1)


def nodes(page: bytes) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Every element of a page: name, texts inside and behind, attributes."""
    tree = html5lib.parse(page.decode(), treebuilder="etree")
    assert isinstance(tree, Element)
    for node in tree.iter():
        kind = node.tag if isinstance(node.tag, str) else "comment"
        tag = re.sub("{.*}", "", kind)
        # An `image` of HTML is an `img` by then.
        found = {k.replace(XLINK, "xlink:"): v for k, v in node.attrib.items()}
        yield tag, node.text or "", node.tail or "", found


TAGS = st.sampled_from(
    [
        *("a", "img", "script", "style", "title", "textarea", "svg", "use", "p", "b"),
        *("iframe", "xmp", "link", "base", "object", "video", "source", "math", "A"),
        *("noembed", "meta", "form", "input", "q", "td", "div", "plaintext", "x-y"),
    ]
)
NAMES = st.sampled_from(
    ["href", "src", "HREF", "cite", "srcset", "content", "data", "alt", "xlink:href"]
)
URLS = st.sampled_from(
    [
        *("/x", "/x/../y", "/", "//10.0.0.5:80/a", "http://10.0.0.5:80/b?c#d", "x", ""),
        *(
            " /x ",
            "\n/y",
            "#f",
            "?q=/z",
            "&#47;a&#x2f;b",
            "/a&amp;b",
            "/a&copy;c",
            "/ü",
        ),
        *("https://other.example/x", "mailto:a@b", "5;url=/x", "/a&#x2e;./b", "/%2f"),
        *("/a&quest/b", "/&#37;2f", "/a,/b", "data:,x"),
    ]
)
QUOTES = st.sampled_from(['"', "'"])
ATTRIBUTES_OF_ONE = st.one_of(
    st.builds(lambda n, q, u: f" {n}={q}{u}{q}", NAMES, QUOTES, URLS),
    st.builds(lambda n, u: f" {n}={u.strip() or 'y'}", NAMES, URLS),
    st.builds(lambda n: f"/{n} = ", NAMES),
)
STARTS = st.builds(
    lambda tag, found, end: f"<{tag}{''.join(found)}{end}",
    TAGS,
    st.lists(ATTRIBUTES_OF_ONE, max_size=3),
    st.sampled_from([">", ">", "/>", "", " "]),
)
ENDS = st.builds(lambda tag: f"</{tag}>", TAGS)
TEXTS = st.sampled_from(
    [
        *("text", " < ", "<!--", "-->", "--!>", "<!-->", "<!doctype html>", "<?x", ">"),
        *("<![CDATA[", "]]>", "</", "<!", '"', "'", "&lt;", "<script>", "</script>"),
        *("</script ", "<!-- <script>", "</title", "=", "-", "\n"),
    ]
)
PAGES = st.lists(st.one_of(STARTS, STARTS, ENDS, TEXTS), max_size=15).map("".join)


@given(PAGES, st.lists(st.integers(1, 50), max_size=10))
@example("<script><!--<script></script><a href=/x>--></script><a href=/y>", [])
@example("<svg><style><a href=/x></style></svg><style><a href=/y></style>", [])
@example("<a href='/x' href=/y><a href=/z", [])
@example('<svg></math><script><a href="/x">', [])
@example("<math><title><a href=/x></title><p><title><a href=/x></title>", [])
@pytest.mark.filterwarnings("ignore::html5lib.constants.DataLossWarning")
def test_browser_sees_the_same_page_with_other_urls(
    page: str, sizes: list[int]
) -> None:
    before = list(nodes(page.encode()))
    after = list(nodes(rewritten(page.encode(), *sizes)))
    for (tag, text, tail, found), other in zip(before, after, strict=True):
        expected = {k: mapped(f"{tag}.{k}", v) for k, v in found.items()}
        assert (tag, text, tail, expected) == other
