"""Quotas by name, as long as a verdict or an exchange needs them.

A quota is forgotten when its name is all that is left of it, and what was moved is paid
for. That is looked at when there are twice as many as were left the last time, so that
there are never many more than verdicts and exchanges; those have bounds of their own.
"""

from libc.stdint cimport uint64_t

from fastpath.base.linux.atomic cimport store_u32, store_u64
from fastpath.base.linux.clock cimport clock_us
from fastpath.http.quota cimport quota_is_idle, quota_new, quota_release

SWEEP_LEAST = 1024


cdef class QuotaBlock:
    def __cinit__(self):
        self.quota = quota_new()
        if self.quota == NULL:
            raise MemoryError

    def __dealloc__(self):
        quota_release(self.quota)


cdef class Quotas:
    def __cinit__(self):
        self.blocks = {}
        self.sweep_at = SWEEP_LEAST

    def __len__(self):
        return len(self.blocks)

    cdef QuotaBlock take(self, spec, dict compiled):
        cdef QuotaBlock block

        if spec is None:
            return None
        block = self.blocks.get(spec.name)
        if block is None:
            if len(self.blocks) >= self.sweep_at:
                compiled.clear()  # what is kept for an equal answer needs none of them
                self._sweep()
            block = QuotaBlock()
            self.blocks[spec.name] = block
        store_u32(&block.quota.most, spec.concurrent)
        store_u64(&block.quota.per_s, spec.bytes_per_s)
        return block

    def _sweep(self):
        cdef QuotaBlock block
        cdef uint64_t now_ms = clock_us() // 1000

        for name in list(self.blocks):
            block = self.blocks[name]
            if quota_is_idle(block.quota, now_ms):
                del self.blocks[name]
        self.sweep_at = max(SWEEP_LEAST, 2 * len(self.blocks))
