# A bounded ring with many writers and one reader, and the descriptor that wakes the
# reader. Commands go to a worker in one, notices come to Python in another.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t

cdef enum LETTER:
    LETTER_ADOPT            # command: this accepted client is yours (fd, vip, addr)
    LETTER_RESET            # command: reset the relays of a backend (slot), or all
    LETTER_RESET_SILENT     # command: only those to which it has said nothing yet
    LETTER_STOP             # command: leave the loop
    LETTER_CONNECT_FAILED   # notice: about a backend (slot)
    LETTER_EJECTED          # notice
    LETTER_RECOVERED        # notice
    LETTER_QUESTION         # a request waits for a verdict (load: question_t)
    LETTER_WITHDRAWN        # that request has ended without one (load: question_t)
    LETTER_RECORD           # an exchange has ended (load: record_t)
    LETTER_ANSWER           # command: here it is (load: answer_t)

cdef enum:
    SLOT_ALL = 0xffffffff   # not one backend: all of them

cdef struct letter_t:
    LETTER    kind
    int       fd            # owned by the letter on its way; -1 = none
    uint32_t  slot          # of a vip or backend, as the kind says
    addr_t    addr
    void*     load          # owned by the letter on its way, from malloc; NULL = none

cdef struct cell_t:
    uint64_t  turn          # atomic; whether the writer or the reader is next here
    letter_t  letter

cdef struct mailbox_t:
    cell_t*   cells         # owned
    uint64_t  mask          # cells - 1
    int       wake_fd       # owned eventfd; readable = the reader was woken
    uint32_t  asleep        # atomic; the reader sets it before it blocks
    uint64_t  tail          # atomic; writers take tickets from it
    uint64_t  head          # the reader's; others read it for mailbox_depth

# `size` is a power of two, at least 2. Return 0 or -errno.
cdef int mailbox_init(mailbox_t* m, uint32_t size) noexcept nogil

# Closes the descriptors, and frees the loads, of letters that were not read.
cdef void mailbox_fini(mailbox_t* m) noexcept nogil

# Any thread. Return 0, or -EAGAIN if full: the letter and its fd stay the caller's.
cdef int mailbox_push(mailbox_t* m, const letter_t* letter) noexcept nogil

# The reader only. Return whether there was one.
cdef bint mailbox_pop(mailbox_t* m, letter_t* into) noexcept nogil

# Any thread: letters under way, give or take those being written.
cdef uint32_t mailbox_depth(const mailbox_t* m) noexcept nogil

# Any thread: wake the reader if it sleeps or is about to.
cdef void mailbox_wake(mailbox_t* m) noexcept nogil

# The reader, before it blocks; if mailbox_depth is not 0 after that, it must not.
cdef void mailbox_sleep(mailbox_t* m) noexcept nogil

# The reader, once awake: no wake-up is needed for now.
cdef void mailbox_rise(mailbox_t* m) noexcept nogil

# The reader, when wake_fd is readable.
cdef void mailbox_clear(mailbox_t* m) noexcept nogil
