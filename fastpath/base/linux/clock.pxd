# Time that never jumps (clock_gettime(2)), short sleeps, the signal mask of a worker.
from libc.stdint cimport uint64_t

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    enum:
        CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* into)
    int nanosleep(const timespec* duration, timespec* left)

cdef extern from "<sys/prctl.h>" nogil:
    enum:
        PR_SET_TIMERSLACK
    int prctl(int option, ...)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    enum:
        SIG_BLOCK
    int sigfillset(sigset_t* set)
    int pthread_sigmask(int how, const sigset_t* set, sigset_t* old)

# Microseconds since some fixed moment before the process started.
cdef inline uint64_t clock_us() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000 + <uint64_t>t.tv_nsec // 1000

cdef inline void sleep_ns(long ns) noexcept nogil:
    cdef timespec t
    t.tv_sec = 0
    t.tv_nsec = ns
    nanosleep(&t, NULL)

# The date as HTTP writes it (RFC 9110 5.6.7).
cdef extern from * nogil:
    """
    #include <stdio.h>
    #include <time.h>
    static inline void fp_http_date(char* into, size_t size) {
        static const char days[] = "SunMonTueWedThuFriSat";
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        time_t now = time(NULL);
        struct tm t;
        gmtime_r(&now, &t);  /* strftime(3) would ask the locale */
        snprintf(into, size, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT",
                 days + 3 * t.tm_wday, t.tm_mday, months + 3 * t.tm_mon,
                 1900 + t.tm_year, t.tm_hour, t.tm_min, t.tm_sec);
    }
    """
    void http_date "fp_http_date"(char* into, size_t size)
