"""Tags and attributes by name: comparisons by hand, because every tag of a page is
looked up, and most have no attribute that is wanted.
"""

from libc.string cimport memcmp

# ---- Names.

# Each between spaces.
cdef const char* WITH_RAW_TEXT = (
    b" script style textarea title xmp iframe noembed noframes plaintext "
)
cdef const char* CLOSES_FOREIGN = (
    b" b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6"
    b" head hr i img li listing menu meta nobr ol p pre ruby s small span strong strike"
    b" sub sup table tt u ul var "
)


cdef bint is_among(
    const char* name, uint8_t size, const char* words
) noexcept nogil:
    cdef const char* p = words + 1
    cdef const char* end

    if size > HTML_NAME_MOST:
        return False
    while p[0] != 0:
        end = p
        while end[0] != b" ":
            end += 1
        if end - p == size and memcmp(p, name, size) == 0:
            return True
        p = end + 1
    return False


cdef uint32_t wanted_a_to_h(const char* t, uint8_t n) noexcept nogil:
    if t[0] == b"a":
        if is_word(t, n, b"a") or is_word(t, n, b"area"):
            return A_HREF
        if is_word(t, n, b"applet"):
            return A_CODEBASE
        return A_SRC if is_word(t, n, b"audio") else 0
    if t[0] == b"b":
        if is_word(t, n, b"base"):
            return A_HREF
        if is_word(t, n, b"blockquote"):
            return A_CITE
        if is_word(t, n, b"body"):
            return A_BACKGROUND
        return A_FORMACTION if is_word(t, n, b"button") else 0
    if is_word(t, n, b"command"):
        return A_ICON
    if is_word(t, n, b"del"):
        return A_CITE
    if is_word(t, n, b"embed"):
        return A_SRC
    if is_word(t, n, b"form"):
        return A_ACTION
    if is_word(t, n, b"frame"):
        return A_LONGDESC | A_SRC
    if is_word(t, n, b"head"):
        return A_PROFILE
    return A_MANIFEST if is_word(t, n, b"html") else 0


cdef uint32_t wanted_i_to_z(const char* t, uint8_t n) noexcept nogil:
    if t[0] == b"i":
        if is_word(t, n, b"img"):
            return A_LONGDESC | A_SRC | A_USEMAP | A_SRCSET
        if is_word(t, n, b"iframe"):
            return A_LONGDESC | A_SRC
        if is_word(t, n, b"input"):
            return A_SRC | A_USEMAP | A_FORMACTION
        if is_word(t, n, b"image"):  # of SVG, as `use`
            return A_HREF | A_XLINK | A_SRC  # in HTML it is an img
        return A_CITE if is_word(t, n, b"ins") else 0
    if is_word(t, n, b"link"):
        return A_HREF | A_IMAGESRCSET
    if is_word(t, n, b"meta"):
        return A_CONTENT
    if is_word(t, n, b"object"):
        return A_CLASSID | A_CODEBASE | A_DATA | A_USEMAP
    if is_word(t, n, b"q"):
        return A_CITE
    if t[0] == b"s":
        if is_word(t, n, b"script"):
            return A_SRC
        return A_SRC | A_SRCSET if is_word(t, n, b"source") else 0
    if is_word(t, n, b"track"):
        return A_SRC
    if is_word(t, n, b"use"):
        return A_HREF | A_XLINK
    return A_POSTER | A_SRC if is_word(t, n, b"video") else 0


cdef uint32_t attributes_wanted(const char* tag, uint8_t size) noexcept nogil:
    if size > HTML_NAME_MOST:
        return 0
    if tag[0] <= b"h":
        return wanted_a_to_h(tag, size)
    return wanted_i_to_z(tag, size)


cdef uint32_t attribute_of(const char* a, uint8_t n) noexcept nogil:
    if n == 4:
        if memcmp(a, b"href", 4) == 0:
            return A_HREF
        if memcmp(a, b"cite", 4) == 0:
            return A_CITE
        if memcmp(a, b"data", 4) == 0:
            return A_DATA
        return A_ICON if memcmp(a, b"icon", 4) == 0 else 0
    if n == 3:
        return A_SRC if memcmp(a, b"src", 3) == 0 else 0
    if n == 6:
        if memcmp(a, b"action", 6) == 0:
            return A_ACTION
        if memcmp(a, b"srcset", 6) == 0:
            return A_SRCSET
        if memcmp(a, b"usemap", 6) == 0:
            return A_USEMAP
        return A_POSTER if memcmp(a, b"poster", 6) == 0 else 0
    if n == 7:
        if memcmp(a, b"content", 7) == 0:
            return A_CONTENT
        if memcmp(a, b"profile", 7) == 0:
            return A_PROFILE
        return A_CLASSID if memcmp(a, b"classid", 7) == 0 else 0
    if n == 8:
        if memcmp(a, b"codebase", 8) == 0:
            return A_CODEBASE
        if memcmp(a, b"longdesc", 8) == 0:
            return A_LONGDESC
        return A_MANIFEST if memcmp(a, b"manifest", 8) == 0 else 0
    if n == 10:
        if memcmp(a, b"formaction", 10) == 0:
            return A_FORMACTION
        if memcmp(a, b"background", 10) == 0:
            return A_BACKGROUND
        return A_XLINK if memcmp(a, b"xlink:href", 10) == 0 else 0
    return A_IMAGESRCSET if is_word(a, n, b"imagesrcset") else 0


cdef bint has_raw_text(const char* tag, uint8_t size) noexcept nogil:
    return is_among(tag, size, WITH_RAW_TEXT)


cdef bint closes_foreign(const char* tag, uint8_t size) noexcept nogil:
    return is_among(tag, size, CLOSES_FOREIGN)
