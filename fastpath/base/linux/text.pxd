# Text of an errno, as part of a sentence: strerror(3) without its capital.
cdef extern from * nogil:
    """
    #include <stdio.h>
    #include <string.h>
    static inline void fp_error_text(int error, char* into, size_t size) {
        char text[128];
        const char* said = strerror_r(error, text, sizeof(text));  /* GNU's */
        snprintf(into, size, "%s", said);
        if (into[0] >= 'A' && into[0] <= 'Z' && into[1] >= 'a' && into[1] <= 'z')
            into[0] |= 0x20;
    }
    """
    void error_text "fp_error_text"(int error, char* into, size_t size)
