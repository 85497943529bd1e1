"""Letters to a worker.

Python pushes onto a list without a bound, so that its thread never waits for room; a
worker takes the whole list at once. Workers hand clients to each other by a bounded
ring: a full one means that the other has enough to do.
"""

from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc

from fastpath.base.linux.atomic cimport acquire_ptr, cas_ptr, swap_ptr
from fastpath.base.mailbox cimport mailbox_pop, mailbox_wake
from fastpath.http.question cimport letter_burn
from fastpath.worker.accept cimport accept_open
from fastpath.worker.fleet cimport post_t


cdef int worker_post(worker_t* w, const letter_t* letter) noexcept nogil:
    cdef post_t* post = <post_t*>malloc(sizeof(post_t))
    cdef void* newest

    if post == NULL:
        return -ENOMEM
    post.letter = letter[0]
    newest = acquire_ptr(&w.posts)
    post.next = <post_t*>newest
    while not cas_ptr(&w.posts, &newest, post):
        post.next = <post_t*>newest
    mailbox_wake(&w.mailbox)
    return 0


cdef void worker_mail(worker_t* w) noexcept nogil:
    cdef letter_t letter

    while mailbox_pop(&w.mailbox, &letter):
        accept_open(w, letter.fd, letter.slot, &letter.addr)


cdef void worker_collect(worker_t* w) noexcept nogil:
    cdef post_t* newest = <post_t*>swap_ptr(&w.posts, NULL)
    cdef post_t* oldest = NULL
    cdef post_t* post
    cdef post_t** end = &w.unread

    while newest != NULL:
        post = newest
        newest = post.next
        post.next = oldest
        oldest = post
    while end[0] != NULL:
        end = &end[0].next
    end[0] = oldest


cdef void worker_unread(worker_t* w) noexcept nogil:
    cdef letter_t letter
    cdef post_t* post

    while w.mailbox.cells != NULL and mailbox_pop(&w.mailbox, &letter):
        letter_burn(&letter)
    worker_collect(w)
    while w.unread != NULL:
        post = w.unread
        w.unread = post.next
        letter_burn(&post.letter)
        free(post)
