/* Memory that runs out when it is told to: preloaded, it stands before malloc(3).
 *
 * fault_arm(n) lets the n-th allocation from now on of the calling thread fail, and no
 * other. fault_left() is how many would still have to come: 0 = it has failed.
 * fault_live() is how many blocks the process holds. fault_others(n, m) lets the next n
 * realloc(3) of other threads fail, and the next m sockets find no room in epoll(7). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's own, under names that this file does not stand before. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static __thread long left __attribute__((tls_model("initial-exec")));
static __thread int mine __attribute__((tls_model("initial-exec")));
static atomic_long live, reallocs, watches;

void fault_arm(long n) { left = n; }
long fault_left(void) { return left; }
long fault_live(void) { return atomic_load(&live); }

void fault_others(long n, long m) {
    mine = 1;
    atomic_store(&reallocs, n);
    atomic_store(&watches, m);
}

static int fails_elsewhere(atomic_long *count) {
    return !mine && atomic_load(count) > 0 && atomic_fetch_sub(count, 1) > 0;
}

static int fails(void) {
    if (left == 0 || --left > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

static void *counted(void *block) {
    if (block != NULL)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return block;
}

void *malloc(size_t size) { return fails() ? NULL : counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) {
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *memalign(size_t alignment, size_t size) {
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **into, size_t alignment, size_t size) {
    void *block = memalign(alignment, size);
    if (block == NULL)
        return ENOMEM;
    *into = block;
    return 0;
}

void *realloc(void *block, size_t size) {
    if (fails_elsewhere(&reallocs))
        return NULL;
    if (fails())
        return NULL;
    return block == NULL ? counted(__libc_malloc(size)) : __libc_realloc(block, size);
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    if (what == EPOLL_CTL_ADD && fails_elsewhere(&watches)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, what, fd, event);
}

void free(void *block) {
    if (block != NULL)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    __libc_free(block);
}

void *mmap(void *at, size_t size, int may, int flags, int fd, off_t offset) {
    if (fd == -1 && fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, size, may, flags, fd, offset);
}
