"""Changes of dicts, all or none, where memory may end in the middle.

A new key may need memory, and everything else does not: a key that is there gets
another value in place, and one that goes leaves its room behind. So what comes is kept
first, and undone if it fails; what goes leaves when nothing can fail any more.
"""


cdef void _undo(list steps, Py_ssize_t done) noexcept:
    cdef dict of

    while done > 0:
        done -= 1
        of, key, old = <tuple>steps[done]
        if old is None:
            del of[key]
        else:
            of[key] = old


cdef int keep_all(list pairs) except -1:
    cdef dict of, changes
    cdef Py_ssize_t done = 0
    steps, gone = [], []

    for of, changes in pairs:
        for key, value in changes.items():
            old = of.get(key)
            if value is not None:
                steps.append((of, key, old))
            elif old is not None:
                gone.append((of, key))
    try:
        for of, changes in pairs:
            for key, value in changes.items():
                if value is not None:
                    of[key] = value
                    done += 1
    except BaseException:
        _undo(steps, done)
        raise
    for of, key in gone:
        del of[key]
    return 0


def keep(list pairs):
    """Keep changes; see keep.pxd. For tests."""
    keep_all(pairs)
