"""Huge pages for the tables: rows and keys are read at random, and a table of ordinary pages is more pages than a processor remembers.

With 4 KiB pages a row that is in no cache costs a walk through the page table too; with 2 MiB pages five hundred times fewer
are there to remember. TensorFlow asks the kernel for neither, and numpy for its own arrays only.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

HUGE = 14
"""MADV_HUGEPAGE: what is touched from now on."""
COLLAPSE = 25
"""MADV_COLLAPSE: what is there already, at once. Kernels before 6.1 know it not and do the same by and by."""
LEAST = 16 << 20
"""Bytes of a mapping that is worth it: smaller ones a processor's page cache reaches, and threads' stacks are among them."""
MAPS = Path("/proc/self/maps")


def enlarge() -> int:
    """Ask for huge pages for the large private memory of this process; answers how many bytes were asked for.

    Values do not change, and a system that refuses or knows none is left as it is.
    """
    if sys.platform != "linux":
        return 0
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    asked = 0
    for start, size in large(MAPS.read_text(encoding="utf-8")):
        if advise(start, size, HUGE) == 0:
            advise(start, size, COLLAPSE)
            asked += size
    return asked


def large(maps: str) -> Iterator[tuple[int, int]]:
    """Start and size of the anonymous, private, writable mappings of at least `LEAST` bytes, of /proc/PID/maps."""
    for line in maps.splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        start, stop = (int(address, 16) for address in addresses.split("-"))
        if rights == "rw-p" and inode == "0" and not name and stop - start >= LEAST:
            yield start, stop - start
