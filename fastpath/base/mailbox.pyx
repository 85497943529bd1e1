"""The bounded queue between threads, after Dmitry Vyukov's design: each cell has the
number of the turn it is ready for, so that writers contend only for the ticket counter
and the reader for nothing.

Waking costs a system call only when the reader sleeps: the reader sets a flag before it
looks a last time, and a writer reads the flag after it wrote. The two fences make one
of them see the other (store-load, Dekker).
"""

from libc.errno cimport EAGAIN, ENOMEM, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.base.linux.atomic cimport (
    acquire_u64,
    cas_u64,
    fence,
    load_u32,
    load_u64,
    release_u64,
    store_u32,
    store_u64,
    swap_u32,
)
from fastpath.base.linux.file cimport (
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    close,
    eventfd,
    read,
    write,
)


cdef int mailbox_init(mailbox_t* m, uint32_t size) noexcept nogil:
    cdef uint32_t i

    m.wake_fd = -1
    m.cells = <cell_t*>calloc(size, sizeof(cell_t))
    if m.cells == NULL:
        return -ENOMEM
    for i in range(size):
        m.cells[i].turn = i
    m.mask = size - 1
    m.asleep = 0
    m.tail = 0
    m.head = 0
    m.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    return 0 if m.wake_fd != -1 else -errno


cdef void mailbox_fini(mailbox_t* m) noexcept nogil:
    cdef letter_t letter

    if m.cells != NULL:
        while mailbox_pop(m, &letter):
            if letter.fd != -1:
                close(letter.fd)
            free(letter.load)
        free(m.cells)
        m.cells = NULL
    if m.wake_fd != -1:
        close(m.wake_fd)
        m.wake_fd = -1


cdef int mailbox_push(mailbox_t* m, const letter_t* letter) noexcept nogil:
    cdef uint64_t ticket = load_u64(&m.tail)
    cdef cell_t* cell
    cdef uint64_t turn

    while True:
        cell = &m.cells[ticket & m.mask]
        turn = acquire_u64(&cell.turn)
        if turn == ticket:
            if cas_u64(&m.tail, &ticket, ticket + 1):
                break
        elif turn < ticket:  # a whole ring behind: not read yet
            return -EAGAIN
        else:
            ticket = load_u64(&m.tail)
    cell.letter = letter[0]
    release_u64(&cell.turn, ticket + 1)
    mailbox_wake(m)
    return 0


cdef bint mailbox_pop(mailbox_t* m, letter_t* into) noexcept nogil:
    cdef uint64_t head = m.head
    cdef cell_t* cell = &m.cells[head & m.mask]

    if acquire_u64(&cell.turn) != head + 1:
        return False
    into[0] = cell.letter
    release_u64(&cell.turn, head + m.mask + 1)
    store_u64(&m.head, head + 1)
    return True


cdef uint32_t mailbox_depth(const mailbox_t* m) noexcept nogil:
    return <uint32_t>(load_u64(&m.tail) - load_u64(&m.head))


cdef void mailbox_wake(mailbox_t* m) noexcept nogil:
    cdef uint64_t one = 1

    fence()
    if load_u32(&m.asleep) != 0 and swap_u32(&m.asleep, 0) != 0:
        write(m.wake_fd, &one, sizeof(one))


cdef void mailbox_sleep(mailbox_t* m) noexcept nogil:
    store_u32(&m.asleep, 1)
    fence()


cdef void mailbox_rise(mailbox_t* m) noexcept nogil:
    store_u32(&m.asleep, 0)


cdef void mailbox_clear(mailbox_t* m) noexcept nogil:
    cdef uint64_t count
    read(m.wake_fd, &count, sizeof(count))


cdef class Mailbox:
    """A mailbox for tests: letters are numbers, each with an fd or -1."""

    cdef mailbox_t mailbox

    def __cinit__(self, size):
        self.mailbox.wake_fd = -1
        if mailbox_init(&self.mailbox, size) < 0:
            raise MemoryError

    def __dealloc__(self):
        mailbox_fini(&self.mailbox)

    def fileno(self):
        return self.mailbox.wake_fd

    def push(self, uint32_t number, int fd=-1):
        """Return whether there was room."""
        cdef letter_t letter
        memset(&letter, 0, sizeof(letter))
        letter.kind = LETTER_ADOPT
        letter.fd = fd
        letter.slot = number
        return mailbox_push(&self.mailbox, &letter) == 0

    def pop(self):
        """Return (number, fd), or None."""
        cdef letter_t letter
        if not mailbox_pop(&self.mailbox, &letter):
            return None
        return letter.slot, letter.fd

    def depth(self):
        return mailbox_depth(&self.mailbox)

    def sleep(self):
        mailbox_sleep(&self.mailbox)

    def rise(self):
        mailbox_rise(&self.mailbox)

    def clear(self):
        mailbox_clear(&self.mailbox)

    def close(self):
        mailbox_fini(&self.mailbox)
