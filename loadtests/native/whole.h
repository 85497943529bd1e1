/* Whole answers of the upstream, head and framed body, ready to be sent. */
#ifndef LOADTESTS_WHOLE_H
#define LOADTESTS_WHOLE_H

#include "http.h"

/* With Content-Length. `header` is one more header line, or "". */
text_t whole_sized(const char* status, const char* header, const text_t* body);
/* `step` bytes per chunk; 0 = a line per chunk, as items of a list are encoded. */
text_t whole_chunked(const char* header, const text_t* body, size_t step);

#endif
