"""How the C library treats freed memory in this process. Knows nothing of torch, whose CPU tensors come from it."""

import ctypes
import logging

log = logging.getLogger(__name__)

# <malloc.h> of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Lets freed blocks of every size be used again instead of being returned to the system.

    A step frees activations of megabytes and the next one allocates them again; by default each of them is mapped
    anew, and its first use faults in at 2 GB/s. The process keeps its peak instead, which steps bound.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.info("the C library has no mallopt; large tensors are mapped anew in each step")
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
