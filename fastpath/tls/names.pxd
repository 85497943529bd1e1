# Which of a server's certificates a name of SNI is for: a sorted list, made once.
from fastpath.tls.openssl cimport SSL_CTX

cdef struct name_t:
    char* text               # owned; lower case, a wildcard without its star: ".b.org"
    int   context            # index of a certificate

cdef struct names_t:
    name_t* list             # owned, sorted by text; NULL = none
    int     count

# The names of `count` contexts. Of certificates with the same name the first counts.
# Raises MemoryError.
cdef int names_init(names_t* n, SSL_CTX** contexts, int count) except -1
cdef void names_free(names_t* n) noexcept nogil

# Index of the context for `name`: one that names it, else one with a wildcard for it.
# -1 = none.
cdef int names_find(const names_t* n, const char* name) noexcept nogil
