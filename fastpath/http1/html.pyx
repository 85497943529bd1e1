"""A tokenizer of HTML that looks for attributes with URLs.

It reads tags as a browser does, or it would take text for a tag: what stands in
comments, in scripts, in text of a textarea has no URL of the page. Of the tree that a
browser builds it knows one thing: whether SVG or MathML is open, where other rules
hold.
"""

from libc.string cimport memchr, memcmp, memcpy

from fastpath.http1.field cimport is_digit, lower
from fastpath.http1.tags cimport (
    A_CONTENT,
    A_IMAGESRCSET,
    A_SRCSET,
    attribute_of,
    attributes_wanted,
    closes_foreign,
    has_raw_text,
    is_foreign,
    is_word,
)


cdef enum:
    QUOTE = 34
    APOSTROPHE = 39
    LESS = 60


# ---- Tags. Each function takes a byte, and returns whether it used it: one that is not
# used is given again, in the new state.

cdef inline bint is_letter(char c) noexcept nogil:
    c = lower(c)
    return c >= b"a" and c <= b"z"


cdef inline void collect(char* name, uint8_t* size, char c) noexcept nogil:
    if size[0] < HTML_NAME_MOST:
        name[size[0]] = lower(c)
        size[0] += 1
    else:
        size[0] = HTML_NAME_MOST + 1  # none that we know


# The ">" of a tag; `closes` = "/>".
cdef void tag_end(html_t* h, bint closes) noexcept nogil:
    cdef bint foreign = is_foreign(h.tag, h.tag_size, h.root if h.foreign else 0)

    h.state = HTML_DATA
    if h.is_end:
        if foreign and h.foreign > 0:
            h.foreign -= 1
        return
    if foreign:
        if not closes and h.foreign < 255:
            h.foreign += 1
            h.root = h.tag[0]
        return
    if h.foreign > 0:
        # In there a style or a title has elements, and "/>" closes a script.
        if closes_foreign(h.tag, h.tag_size):
            h.foreign = 0
        return
    if has_raw_text(h.tag, h.tag_size):
        h.state = HTML_RAW
        h.escaped = 0
        h.dashes = 0
        if is_word(h.tag, h.tag_size, b"plaintext"):
            h.state = HTML_PLAIN


cdef bint open_byte(html_t* h, char c) noexcept nogil:
    if h.state == HTML_TAG_NAME:
        if is_space(c):
            h.state = HTML_BEFORE_NAME
        elif c == b"/":
            h.state = HTML_SELF_CLOSE
        elif c != b">":
            collect(h.tag, &h.tag_size, c)
            return True
        h.wanted = 0 if h.is_end else attributes_wanted(h.tag, h.tag_size)
        if c == b">":
            tag_end(h, False)
        return True
    if is_letter(c):
        h.is_end = h.state == HTML_END_OPEN
        h.tag_size = 0
        h.state = HTML_TAG_NAME
        return False
    if h.state == HTML_END_OPEN:
        h.state = HTML_DATA if c == b">" else HTML_BOGUS
        return c == b">"
    if c == b"/":
        h.state = HTML_END_OPEN
    elif c == b"!":
        h.state = HTML_MARKUP
    elif c == b"?":
        h.state = HTML_BOGUS
    else:
        h.state = HTML_DATA
        return False
    return True


cdef bint attribute_byte(html_t* h, char c) noexcept nogil:
    # These states differ only in what begins a name, and in what "=" means.
    cdef uint8_t state = h.state

    if c == b">":
        tag_end(h, state == HTML_SELF_CLOSE)
    elif c == b"/":
        h.state = HTML_SELF_CLOSE
    elif is_space(c):
        if state == HTML_NAME:
            h.state = HTML_AFTER_NAME
        elif state != HTML_AFTER_NAME:
            h.state = HTML_BEFORE_NAME
    elif c == b"=" and (state == HTML_NAME or state == HTML_AFTER_NAME):
        h.state = HTML_BEFORE_VALUE
    else:
        if state != HTML_NAME:  # also "=", which is the first byte of a name then
            h.name_size = 0
            h.state = HTML_NAME
        collect(h.name, &h.name_size, c)
    return True


cdef void value_begin(html_t* h, HTML_STATE state) noexcept nogil:
    cdef uint32_t found = 0

    h.state = state
    h.kind = HTML_NOTHING
    h.size = 0
    h.judged = 0
    if h.wanted:
        found = h.wanted & attribute_of(h.name, h.name_size)
    if found & (A_SRCSET | A_IMAGESRCSET):
        h.kind = HTML_URLS
    elif found & A_CONTENT:
        h.kind = HTML_REFRESH
    elif found:
        h.kind = HTML_URL


cdef inline char quote_of(const html_t* h) noexcept nogil:
    return QUOTE if h.state == HTML_DOUBLE else APOSTROPHE


cdef bint value_byte(html_t* h, char c) noexcept nogil:
    if h.state == HTML_BEFORE_VALUE:
        if is_space(c):
            return True
        if c == b">":
            tag_end(h, False)
        elif c == b'"':
            value_begin(h, HTML_DOUBLE)
        elif c == b"'":
            value_begin(h, HTML_SINGLE)
        else:
            value_begin(h, HTML_UNQUOTED)
            return False
    elif h.state == HTML_UNQUOTED:
        if is_space(c):
            h.state = HTML_BEFORE_NAME
        elif c == b">":
            tag_end(h, False)
    elif c == quote_of(h):
        h.state = HTML_AFTER_VALUE
    return True


# ---- Comments, doctypes, CDATA.

cdef bint markup_byte(html_t* h, char c) noexcept nogil:
    cdef const char* cdata = b"CDATA["

    if h.state == HTML_MARKUP and c == b"-":
        h.state = HTML_MARKUP_DASH
    elif h.state == HTML_MARKUP_DASH and c == b"-":
        h.state = HTML_COMMENT
        h.fresh = 1
        h.dashes = 0
    elif h.state == HTML_MARKUP and c == b"[" and h.foreign > 0:
        h.state = HTML_MARKUP_CDATA
        h.name_size = 0
    elif h.state == HTML_MARKUP_CDATA and c == cdata[h.name_size]:
        h.name_size += 1
        if h.name_size == 6:
            h.state = HTML_CDATA
            h.dashes = 0
    else:
        h.state = HTML_BOGUS
        return False
    return True


cdef bint comment_byte(html_t* h, char c) noexcept nogil:
    if h.state == HTML_BOGUS:
        if c == b">":
            h.state = HTML_DATA
    elif h.state == HTML_CDATA:
        if c == b"]":
            h.dashes = min(2, h.dashes + 1)
        elif c == b">" and h.dashes == 2:
            h.state = HTML_DATA
        else:
            h.dashes = 0
    elif h.state == HTML_COMMENT_BANG:
        # "--!>" ends a comment, and nothing else that begins like this.
        h.state = HTML_DATA if c == b">" else HTML_COMMENT
        h.dashes = c == b"-"
    elif c == b"-":
        h.dashes = min(2, h.dashes + 1)
    elif c == b">" and (h.dashes == 2 or h.fresh):
        h.state = HTML_DATA  # fresh: "<!-->" and "<!--->" are whole comments
    else:
        if c == b"!" and h.dashes == 2:
            h.state = HTML_COMMENT_BANG
        h.fresh = 0
        h.dashes = 0
    return True


# ---- Elements whose text has no tags.

cdef bint raw_end_byte(html_t* h, char c) noexcept nogil:
    cdef bint delimits = is_space(c) or c == b"/" or c == b">"

    # Behind "</" or "<" and letters: it counts if they are the element's name.
    if is_letter(c):
        collect(h.name, &h.name_size, c)
        return True
    if not delimits or h.name_size != h.tag_size or (
        memcmp(h.name, h.tag, h.tag_size) != 0
    ):
        h.state = HTML_RAW
        return False
    if h.state == HTML_RAW_START or h.escaped == 2:
        # "<script>" and "</script>" in a comment of a script: a pair within it.
        h.escaped = 2 if h.state == HTML_RAW_START else 1
        h.state = HTML_RAW
        return True
    h.is_end = 1
    h.wanted = 0
    h.state = HTML_BEFORE_NAME
    return attribute_byte(h, c)


cdef bint raw_byte(html_t* h, char c) noexcept nogil:
    cdef bint script

    if h.state == HTML_RAW_END or h.state == HTML_RAW_START:
        return raw_end_byte(h, c)
    if h.state == HTML_RAW:
        if c == b"<":
            h.state = HTML_RAW_LT
            h.dashes = 0
        elif c == b"-":
            h.dashes = min(2, h.dashes + 1)
        else:
            if c == b">" and h.dashes == 2:
                h.escaped = 0
            h.dashes = 0
        return True
    if h.state == HTML_RAW_LT:
        script = is_word(h.tag, h.tag_size, b"script")
        h.name_size = 0
        if c == b"/":
            h.state = HTML_RAW_END
        elif c == b"!" and script and h.escaped == 0:
            h.state = HTML_RAW_BANG
        elif is_letter(c) and script and h.escaped == 1:
            h.state = HTML_RAW_START
            return False
        else:
            h.state = HTML_RAW
            return False
        return True
    if c != b"-":  # behind "<!" or "<!-"
        h.state = HTML_RAW
        return False
    if h.state == HTML_RAW_BANG:
        h.state = HTML_RAW_BANG_DASH
    else:
        h.state = HTML_RAW
        h.escaped = 1
        h.dashes = 2  # "<!-->" begins and ends one
    return True


# ---- Values.

# Skip bytes that lead to no other state.
cdef inline size_t html_skip(
    const html_t* h, const char* bytes, size_t size
) noexcept nogil:
    cdef const char* p = NULL

    if h.state == HTML_DATA or (h.state == HTML_RAW and h.escaped == 0):
        p = <const char*>memchr(bytes, LESS, size)
    elif h.state == HTML_DOUBLE or h.state == HTML_SINGLE:
        p = <const char*>memchr(bytes, quote_of(h), size)
    elif h.state != HTML_PLAIN:
        return 0
    return p - bytes if p != NULL else size


# Whether a value that begins with `c` may be one to map. A relative URL, a fragment and
# what has another scheme are passed on at once, however long: "data:" is one of them.
cdef inline bint may_be_ours(const html_t* h, char c) noexcept nogil:
    if h.kind == HTML_URL:
        return c == b"/" or c == b"h" or c == b"H" or c == b"&"
    return h.kind == HTML_URLS or is_digit(c) or c == b"."


# Where the value in work ends: at `size` if not here.
cdef size_t value_end(const html_t* h, const char* bytes, size_t size) noexcept nogil:
    cdef size_t at = 0

    if h.state != HTML_UNQUOTED:
        return html_skip(h, bytes, size)
    while at < size and bytes[at] != b">" and not is_space(bytes[at]):
        at += 1
    return at


# Keep what is here of a value. HTML_PASS: it is not wanted after all.
cdef HTML value_hold(
    html_t* h, const char* bytes, size_t size, size_t* used
) noexcept nogil:
    cdef size_t end = value_end(h, bytes, size)
    cdef size_t at = 0
    while not h.judged and at < end:
        if not is_space(bytes[at]):
            h.judged = 1
            if not may_be_ours(h, bytes[at]):
                h.kind = HTML_NOTHING
                return HTML_LOOSE if h.size > 0 else HTML_PASS
        at += 1
    if h.size + end > HTML_VALUE_MOST:
        h.kind = HTML_NOTHING
        return HTML_LONG
    memcpy(h.value + h.size, bytes, end)
    h.size += <uint32_t>end
    used[0] = end
    if end == size:
        return HTML_HELD
    h.found = h.kind
    h.kind = HTML_NOTHING
    return HTML_WHOLE


# ---- The driver.

cdef inline bint html_byte(html_t* h, char c) noexcept nogil:
    if h.state == HTML_DATA:
        h.state = HTML_TAG_OPEN  # html_skip stopped at "<"
        return True
    if h.state >= HTML_BEFORE_NAME:
        if h.state >= HTML_BEFORE_VALUE and h.state <= HTML_UNQUOTED:
            return value_byte(h, c)
        return attribute_byte(h, c)
    if h.state <= HTML_TAG_NAME:
        return open_byte(h, c)
    if h.state <= HTML_MARKUP_CDATA:
        return markup_byte(h, c)
    return comment_byte(h, c) if h.state <= HTML_CDATA else raw_byte(h, c)


cdef HTML html_step(
    html_t* h, const char* bytes, size_t size, size_t* used
) noexcept nogil:
    cdef size_t at = 0
    cdef HTML found

    # In order, until a value is wanted or the bytes are at their end: skip what is
    # plainly text; let the state take a byte.
    used[0] = 0
    while at < size:
        if h.kind != HTML_NOTHING:
            if at > 0:
                break  # what stands before the value first
            found = value_hold(h, bytes, size, used)
            if found != HTML_PASS and (found != HTML_WHOLE or h.size > 0):
                return found
            continue
        at += html_skip(h, bytes + at, size - at)
        if at < size and html_byte(h, bytes[at]):
            at += 1
    used[0] = at
    return HTML_PASS


cdef uint32_t html_finish(html_t* h) noexcept nogil:
    cdef uint32_t left = h.size if h.kind != HTML_NOTHING else 0

    h.kind = HTML_NOTHING
    return left
