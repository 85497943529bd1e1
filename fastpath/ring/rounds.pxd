# The order of a weighted round robin.
from libc.stdint cimport uint16_t, uint32_t

# Indices of `weights` in smooth order, each as often as its weight, or nearly, says.
# The array, of `size` entries, is the caller's to free.
cdef uint16_t* rounds_new(list weights, uint32_t* size) except NULL
