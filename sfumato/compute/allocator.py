"""glibc told to keep freed memory in the process.

By default it gives large freed blocks back to the kernel, which must zero them again at the next
allocation; a training step on the CPU frees and allocates thousands of them. How much time that
takes depends on the kernel and on the size of a step: benchmarks/allocator.py measures it.
"""

from __future__ import annotations

import ctypes
import os

# mallopt's numbers in malloc.h, the variable of the same meaning, and what we ask for.
SETTINGS = {
    "MALLOC_MMAP_MAX_": (-4, 0),  # no block gets pages of its own
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),  # nothing is given back at the end of the heap
    "MALLOC_TOP_PAD_": (-2, 256 * 2**20),  # bytes taken from the kernel at a time
}
OPT_OUT = "SFUMATO_MALLOC"


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, from now on; call it before heavy work.

    Settings that the environment made (the variables above, or glibc's tunables) stay, and
    SFUMATO_MALLOC=0 leaves all of it alone.

    Returns:
        Whether glibc took every setting: False if the C library is another.
    """
    if os.environ.get(OPT_OUT) == "0" or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if not _glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = [pair for name, pair in SETTINGS.items() if name not in os.environ]
    return all([mallopt(number, value) == 1 for number, value in wanted])


def _glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows, or another C library
        return False
