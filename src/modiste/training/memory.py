"""Keep freed memory in the process, so that the next step finds its pages already mapped.

glibc gives every block above 32 MiB at most straight back to the kernel. A training step frees and
takes gigabytes of activations, so each step faults all its pages in again: on 2 cores this cost up to
half of the training time of MobileNetV2 (105 against 55 ms a photo at 256 px, batch 32;
benchmarks/memory.py). The price is that the process stays at its peak size.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1  # malloc.h: free memory at the heap's top beyond which it is given back, bytes
_M_MMAP_MAX = -4  # malloc.h: how many blocks may be mapped on their own
_MOST = 2**31 - 1  # largest int


def keep_freed_memory() -> bool:
    """Set malloc's thresholds for this process; True where it took effect (Linux with glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _MOST))
