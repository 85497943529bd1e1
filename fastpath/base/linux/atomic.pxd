# Every atomic of the house (rule 9). GCC and clang builtins.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #define fp_load_u32(p)      __atomic_load_n((p), __ATOMIC_RELAXED)
    #define fp_store_u32(p, v)  __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define fp_load_u64(p)      __atomic_load_n((p), __ATOMIC_RELAXED)
    #define fp_store_u64(p, v)  __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define fp_add_u64(p, v)    __atomic_add_fetch((p), (v), __ATOMIC_RELAXED)
    #define fp_sub_u64(p, v)    __atomic_sub_fetch((p), (v), __ATOMIC_RELAXED)
    #define fp_add_u32(p, v)    __atomic_add_fetch((p), (v), __ATOMIC_RELAXED)
    /* A thread that lets go of a thing does not use it any more: see vip_leave. */
    #define fp_sub_u32(p, v)    __atomic_sub_fetch((p), (v), __ATOMIC_RELEASE)
    /* The last one to let go sees all that the others did before. */
    #define fp_sub_u32_acq(p, v) __atomic_sub_fetch((p), (v), __ATOMIC_ACQ_REL)
    #define fp_acquire_u64(p)   __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define fp_release_u64(p,v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define fp_swap_u32(p, v)   __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #define fp_swap_ptr(p, v)   \\
        __atomic_exchange_n((void**)(p), (void*)(v), __ATOMIC_ACQ_REL)
    #define fp_fence()          __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define fp_acquire_ptr(p)   __atomic_load_n((void**)(p), __ATOMIC_ACQUIRE)
    #define fp_release_ptr(p,v) \\
        __atomic_store_n((void**)(p), (void*)(v), __ATOMIC_RELEASE)
    static inline int fp_cas_ptr(void* p, void** seen, void* want) {
        return __atomic_compare_exchange_n(
            (void**)p, seen, want, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline int fp_cas_u64(uint64_t* p, uint64_t* seen, uint64_t want) {
        return __atomic_compare_exchange_n(
            p, seen, want, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    """
    uint32_t load_u32 "fp_load_u32"(const uint32_t* p)
    void store_u32 "fp_store_u32"(uint32_t* p, uint32_t value)
    uint64_t load_u64 "fp_load_u64"(const uint64_t* p)
    void store_u64 "fp_store_u64"(uint64_t* p, uint64_t value)
    uint64_t add_u64 "fp_add_u64"(uint64_t* p, uint64_t value)  # the new value
    uint64_t sub_u64 "fp_sub_u64"(uint64_t* p, uint64_t value)  # the new value
    uint32_t add_u32 "fp_add_u32"(uint32_t* p, uint32_t value)  # the new value
    uint32_t sub_u32 "fp_sub_u32"(uint32_t* p, uint32_t value)  # the new value
    uint32_t sub_u32_acq "fp_sub_u32_acq"(uint32_t* p, uint32_t value)  # likewise
    uint64_t acquire_u64 "fp_acquire_u64"(const uint64_t* p)
    void release_u64 "fp_release_u64"(uint64_t* p, uint64_t value)
    uint32_t swap_u32 "fp_swap_u32"(uint32_t* p, uint32_t value)  # the old value
    void* swap_ptr "fp_swap_ptr"(void* p, void* value)  # the old value
    void fence "fp_fence"()
    void* acquire_ptr "fp_acquire_ptr"(void* p)
    void release_ptr "fp_release_ptr"(void* p, void* value)
    # Swap `want` in if *p equals *seen; else *seen becomes what stands there.
    bint cas_ptr "fp_cas_ptr"(void* p, void** seen, void* want)
    bint cas_u64 "fp_cas_u64"(uint64_t* p, uint64_t* seen, uint64_t want)
