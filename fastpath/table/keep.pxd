# Changes of dicts, all or none.

# Bring the changes into the dicts of `pairs`, tuples of a dict and a dict of changes: a
# value by key, None for what goes. Or raise MemoryError, and no dict has changed.
cdef int keep_all(list pairs) except -1
