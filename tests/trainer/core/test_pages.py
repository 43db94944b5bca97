"""Which of a process's memory is asked to lie on huge pages, and that its values stay."""

from __future__ import annotations

import sys

import numpy as np

from trainer import pages

MAPS = """\
7f0000000000-7f0002000000 rw-p 00000000 00:00 0
7f1000000000-7f1002000000 r--p 00000000 00:00 0
7f2000000000-7f2002000000 rw-p 00000000 08:01 1234                       /lib/some file.so
7f3000000000-7f3000800000 rw-p 00000000 00:00 0
7f4000000000-7f4002000000 rw-p 00000000 00:00 0                          [heap]
7f5000000000-7f5002000000 rw-s 00000000 00:01 99                         /dev/zero (deleted)
"""


def test_only_large_anonymous_memory_of_ones_own_is_asked_for() -> None:
    assert list(pages.large(MAPS)) == [(0x7F0000000000, 0x2000000)]


def test_a_large_array_keeps_its_values() -> None:
    held = np.arange(8 << 20, dtype=np.int64)
    assert pages.enlarge() >= held.nbytes or sys.platform != "linux"
    assert np.array_equal(held, np.arange(8 << 20))
