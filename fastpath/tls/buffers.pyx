"""OpenSSL's buffers, for the connections that use them.

A connection that waits, as a watch does for hours, should hold none; one that is busy
should not get two of them anew for every record. Which is which shows by itself: each
use is noted, and what was not used for a while is given back, so that what is held
follows the recent peak. Where the bytes are used up, a place is lost to somebody
else's record, and won by the next of one's own. OpenSSL's SSL_MODE_RELEASE_BUFFERS
knows only always and never, and since 3.2 the one for writing is settled by the
handshake.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memset

from fastpath.tls.openssl cimport SSL_free_buffers

cdef enum:
    PLACES_FIRST = 16


cdef void buffers_init(buffers_t* b, uint64_t bytes) noexcept nogil:
    cdef uint64_t most = bytes // BUFFERS_BYTES

    memset(b, 0, sizeof(buffers_t))
    b.most = <uint32_t>most if most < <uint64_t>1 << 30 else 1 << 30
    if b.most == 0:
        b.most = 1


cdef void buffers_fini(buffers_t* b) noexcept nogil:
    free(b.places)
    b.places = NULL
    b.room = 0
    b.free = 0


# More places, all of them free. False = that is all, or no memory.
cdef bint grow(buffers_t* b) noexcept nogil:
    cdef uint32_t room = 2 * b.room if b.room > 0 else PLACES_FIRST
    cdef place_t* places
    cdef uint32_t i

    if room > b.most:
        room = b.most
    if room <= b.room:
        return False
    places = <place_t*>realloc(b.places, room * sizeof(place_t))
    if places == NULL:
        return False
    b.places = places
    for i in range(room, b.room, -1):
        release(b, i - 1)  # so that the first is taken first
    b.room = room
    return True


cdef inline void release(buffers_t* b, uint32_t place) noexcept nogil:
    b.places[place].ssl = NULL
    b.places[place].next_free = b.free
    b.free = place + 1


cdef uint32_t evict(buffers_t* b) noexcept nogil:
    cdef uint32_t at = b.next

    b.next = (b.next + 1) % b.room
    SSL_free_buffers(b.places[at].ssl)  # unless bytes wait in them: its turn is near
    return at


cdef void buffers_keep(buffers_t* b, SSL* ssl, uint32_t* place) noexcept nogil:
    if b.free == 0 and not grow(b) and b.room == 0:
        return  # no memory: it is asked again with its next record
    if b.free > 0:
        place[0] = b.free - 1
        b.free = b.places[place[0]].next_free
    else:
        place[0] = evict(b)
    b.places[place[0]].ssl = ssl
    b.places[place[0]].used = 1


cdef void buffers_leave(buffers_t* b, const SSL* ssl, uint32_t place) noexcept nogil:
    if buffers_held(b, ssl, place):
        release(b, place)


cdef void buffers_age(buffers_t* b, uint64_t now_ms) noexcept nogil:
    cdef place_t* p
    cdef uint32_t i

    b.aged_ms = now_ms
    for i in range(b.room):
        p = &b.places[i]
        if p.ssl == NULL:
            continue
        if not p.used:
            SSL_free_buffers(p.ssl)
            release(b, i)
        p.used = 0
