# Invariants, checked in debug and sanitizer builds only (FASTPATH_DEBUG).
cdef extern from * nogil:
    """
    #ifdef FASTPATH_DEBUG
    #include <stdio.h>
    #include <stdlib.h>
    #define fp_check(fact) do { if (!(fact)) { \\
        fprintf(stderr, "fastpath: %s:%d: not true: %s\\n", \\
                __FILE__, __LINE__, #fact); \\
        abort(); } } while (0)
    #else
    #define fp_check(fact) ((void)0)
    #endif
    """
    void check "fp_check"(bint fact)
