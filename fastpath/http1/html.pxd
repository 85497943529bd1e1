# Where URLs stand in a page of HTML, sans I/O: a tokenizer that is given bytes as they
# come, passes on what it does not understand, and keeps only the value in work.
# Source: WHATWG HTML 13.2.5, whose states these are.
from libc.stdint cimport uint8_t, uint32_t
from fastpath.http1.tags cimport HTML_NAME_MOST

cdef enum:
    HTML_VALUE_MOST = 8192   # bytes of a value; a longer one is passed on as it is

cdef enum HTML_STATE:
    HTML_DATA
    HTML_PLAIN               # behind <plaintext>: to the end of the page
    HTML_TAG_OPEN            # behind "<"
    HTML_END_OPEN            # behind "</"
    HTML_TAG_NAME
    HTML_MARKUP              # behind "<!"
    HTML_MARKUP_DASH         # behind "<!-"
    HTML_MARKUP_CDATA        # behind "<![", in SVG and MathML
    HTML_BOGUS               # up to ">": doctypes, "<?", "</3"
    HTML_COMMENT
    HTML_COMMENT_BANG        # behind "--!"
    HTML_CDATA               # up to "]]>"
    HTML_RAW                 # text of an element in which no tag but its own end counts
    HTML_RAW_LT              # behind "<" in there
    HTML_RAW_END             # behind "</", and in the name
    HTML_RAW_START           # behind "<" and letters, in a comment of a script
    HTML_RAW_BANG            # behind "<!" in a script
    HTML_RAW_BANG_DASH
    HTML_BEFORE_NAME         # of an attribute
    HTML_NAME
    HTML_AFTER_NAME
    HTML_BEFORE_VALUE
    HTML_DOUBLE              # in a value, by its quotes
    HTML_SINGLE
    HTML_UNQUOTED
    HTML_AFTER_VALUE
    HTML_SELF_CLOSE          # behind "/" in a tag

# What a value that is wanted has in it.
cdef enum HTML_KIND:
    HTML_NOTHING             # not wanted
    HTML_URL
    HTML_URLS                # a srcset
    HTML_REFRESH             # "5; url=...", of a meta

# What html_step found.
cdef enum HTML:
    HTML_PASS                # these bytes are passed on as they are
    HTML_HELD                # these bytes are kept, in h.value
    HTML_WHOLE               # likewise, and the value is whole: its turn to be mapped
    HTML_LOOSE               # what is kept is no value to be mapped, no byte was used
    HTML_LONG                # likewise, because it is too long

# All zero to begin with.
cdef struct html_t:
    uint32_t wanted          # ATTRIBUTE bits of the tag in work
    uint32_t size            # bytes of value
    uint8_t  state           # HTML_STATE
    uint8_t  kind            # HTML_KIND of the value in work; else HTML_NOTHING
    uint8_t  found           # HTML_KIND of the last one that was whole
    uint8_t  judged          # the first byte of the value was looked at
    uint8_t  is_end          # an end tag
    uint8_t  foreign         # elements of SVG and MathML that are open
    char     root            # the first letter of the outermost of them
    uint8_t  escaped         # of a script: 1 in a comment, 2 in a script in there
    uint8_t  dashes          # in a row, up to 2; of CDATA: brackets
    uint8_t  fresh           # of a comment: nothing but dashes yet
    uint8_t  tag_size
    uint8_t  name_size       # more than HTML_NAME_MOST: none that we know
    char     tag[HTML_NAME_MOST]    # lower case, as name; of HTML_RAW, its element
    char     name[HTML_NAME_MOST]   # of an attribute, or of what may end HTML_RAW
    char     value[HTML_VALUE_MOST]

# Go on with `size` bytes, at least one: `used` says how many of them the result is
# about. After WHOLE, LOOSE and LONG h.value[:h.size] stays until the next call.
cdef HTML html_step(
    html_t* h, const char* bytes, size_t size, size_t* used
) noexcept nogil

# The page has ended: how many bytes of h.value are still to be passed on as they are.
cdef uint32_t html_finish(html_t* h) noexcept nogil

# The white space of HTML.
cdef inline bint is_space(char c) noexcept nogil:
    return c == 32 or (c >= 9 and c <= 13 and c != 11)
