"""Names of certificates, looked up as TLS clients name a host.

Any client may ask for any name, so that a look-up costs a microsecond however
many certificates there are: two binary searches, for the name itself and for a
wildcard in place of its first label (RFC 6125, 6.4.3). A certificate that names no
host of DNS is known by its common name, as OpenSSL has it.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strchr, strcmp, strlen

from fastpath.tls.openssl cimport (
    ASN1_STRING, ASN1_STRING_get0_data, ASN1_STRING_length, ERR_clear_error, GEN_DNS,
    GENERAL_NAMES, GENERAL_NAMES_free, GENERAL_NAME_get0_value, NID_commonName,
    NID_subject_alt_name, OBJ_obj2nid, SSL_CTX_get0_certificate, X509, X509_NAME,
    X509_NAME_ENTRY, X509_NAME_ENTRY_get_data, X509_NAME_ENTRY_get_object,
    X509_NAME_entry_count, X509_NAME_get_entry, X509_get_ext_d2i,
    X509_get_subject_name, sk_GENERAL_NAME_num, sk_GENERAL_NAME_value,
)

cdef enum:
    NAME_BYTES = 256         # more than a name of DNS can have, with its NUL


cdef bytes string_of(const ASN1_STRING* value):
    cdef const char* text = <const char*>ASN1_STRING_get0_data(value)

    return text[:ASN1_STRING_length(value)]


cdef list common_names(X509* certificate):
    cdef X509_NAME* subject = X509_get_subject_name(certificate)
    cdef X509_NAME_ENTRY* entry
    cdef int i

    found = []
    for i in range(X509_NAME_entry_count(subject)):
        entry = X509_NAME_get_entry(subject, i)
        if OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)) == NID_commonName:
            found.append(string_of(X509_NAME_ENTRY_get_data(entry)))
    return found


cdef list dns_names(X509* certificate):
    cdef GENERAL_NAMES* names = <GENERAL_NAMES*>X509_get_ext_d2i(
        certificate, NID_subject_alt_name, NULL, NULL
    )
    cdef const ASN1_STRING* value
    cdef int kind, i

    found = []
    for i in range(sk_GENERAL_NAME_num(names) if names != NULL else 0):
        value = <const ASN1_STRING*>GENERAL_NAME_get0_value(
            sk_GENERAL_NAME_value(names, i), &kind
        )
        if kind == GEN_DNS:
            found.append(string_of(value))
    GENERAL_NAMES_free(names)
    ERR_clear_error()
    return found


cdef bytes listed(bytes name):
    """`name` as it is listed; nothing if no client can mean it."""
    name = name.lower()
    if name.startswith(b"*."):
        # As OpenSSL: a star for all names below a top-level domain is none.
        name = name[1:] if name.count(b".") > 1 else b""
    fits = 0 < len(name) < NAME_BYTES and b"\0" not in name and b"*" not in name
    return name if fits else b""


cdef int names_init(names_t* n, SSL_CTX** contexts, int count) except -1:
    cdef X509* certificate
    cdef bytes name
    cdef dict found = {}
    cdef int i

    for i in range(count):
        certificate = SSL_CTX_get0_certificate(contexts[i])
        for each in dns_names(certificate) or common_names(certificate):
            found.setdefault(listed(each), i)
    found.pop(b"", None)
    n.list = <name_t*>calloc(len(found) + 1, sizeof(name_t))
    if n.list == NULL:
        raise MemoryError
    for name in sorted(found):
        n.list[n.count].text = <char*>calloc(1, len(name) + 1)
        if n.list[n.count].text == NULL:
            raise MemoryError
        memcpy(n.list[n.count].text, <const char*>name, len(name))
        n.list[n.count].context = found[name]
        n.count += 1
    return 0


cdef void names_free(names_t* n) noexcept nogil:
    cdef int i

    for i in range(n.count):
        free(n.list[i].text)
    free(n.list)
    n.list = NULL
    n.count = 0


cdef int search(const names_t* n, const char* text) noexcept nogil:
    cdef int low = 0
    cdef int high = n.count
    cdef int middle, order

    while low < high:
        middle = (low + high) // 2
        order = strcmp(text, n.list[middle].text)
        if order == 0:
            return n.list[middle].context
        if order < 0:
            high = middle
        else:
            low = middle + 1
    return -1


cdef int names_find(const names_t* n, const char* name) noexcept nogil:
    cdef char lower[NAME_BYTES]
    cdef size_t size = strlen(name)
    cdef const char* dot
    cdef int found
    cdef size_t i

    if size >= NAME_BYTES or name[0] == c".":
        return -1
    for i in range(size + 1):
        lower[i] = name[i] | 0x20 if c"A" <= name[i] <= c"Z" else name[i]
    found = search(n, lower)
    if found >= 0:
        return found
    dot = strchr(lower, c".")
    return search(n, dot) if dot != NULL else -1
