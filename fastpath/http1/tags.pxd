# Names of HTML, in lower case: which attributes of which elements have URLs, and which
# elements change how what follows is read. A size above HTML_NAME_MOST is that of a
# name that was cut, and of none that is known.
# Sources: the attributes that the API server's proxy rewrites (apimachinery,
# pkg/util/proxy/transport.go), srcset, track, SVG and meta beside; WHATWG HTML 13.2.
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, strlen

cdef enum:
    HTML_NAME_MOST = 16      # longer than any name that we know

cdef enum ATTRIBUTE:
    A_HREF = 1
    A_SRC = 2
    A_CITE = 4
    A_LONGDESC = 8
    A_USEMAP = 16
    A_CODEBASE = 32
    A_FORMACTION = 64
    A_BACKGROUND = 128
    A_ICON = 256
    A_ACTION = 512
    A_PROFILE = 1024
    A_MANIFEST = 2048
    A_CLASSID = 4096
    A_DATA = 8192
    A_POSTER = 16384
    A_SRCSET = 32768
    A_IMAGESRCSET = 65536
    A_CONTENT = 131072
    A_XLINK = 262144

cdef inline bint is_word(
    const char* name, uint8_t size, const char* word
) noexcept nogil:
    return size == strlen(word) and memcmp(name, word, size) == 0

# The attributes of a tag that are wanted, as bits, and the bit of an attribute.
cdef uint32_t attributes_wanted(const char* tag, uint8_t size) noexcept nogil
cdef uint32_t attribute_of(const char* a, uint8_t n) noexcept nogil

# Whether it begins or ends SVG or MathML: if one of them is open, which begins with the
# letter `root`, only another one of that; 0 = none is.
cdef inline bint is_foreign(const char* tag, uint8_t size, char root) noexcept nogil:
    return (root == 0 or root == tag[0]) and (
        is_word(tag, size, b"svg") or is_word(tag, size, b"math")
    )

# Whether the text of an element has no tags but its own end.
cdef bint has_raw_text(const char* tag, uint8_t size) noexcept nogil

# Whether a browser closes SVG and MathML before it (WHATWG HTML 13.2.6.5).
cdef bint closes_foreign(const char* tag, uint8_t size) noexcept nogil
