"""Whose turn comes first on a busy machine: a thread that answers asks Linux for short turns, one that loads stands back.

A request needs a processor for less than a millisecond, but when it arrives another thread may be in the midst of a turn of three. Since
6.12 Linux lets a thread ask for shorter turns: it then interrupts those whose turns are longer, and its share of the processor stays
what it was. Elsewhere, and where it is forbidden, nothing changes. Source: sched(7), sched_setattr(2); Stoica and Abdel-Wahab, Earliest
eligible virtual deadline first, 1995.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

SHORT_US: Final = 300
"""A turn of a thread that answers, µs: most requests are through within it."""
SHORTEST_US: Final = 100
"""A turn of a thread that loads, µs, the shortest there is: who is woken need not wait for its end."""
BACK: Final = 10
"""How much nicer a thread is that loads."""

_SET: Final = {"x86_64": 314, "aarch64": 274}
"""The number of the system call sched_setattr, by machine."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, utilisation at least and at most."""


def answer() -> bool:
    """Short turns for this thread and those that it starts; whether Linux took it."""
    return _set(nice=os.getpriority(os.PRIO_PROCESS, 0), turn_us=SHORT_US)


def stand_back() -> bool:
    """This thread, and those that it starts, let others go first; whether Linux took it."""
    return _set(nice=min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + BACK), turn_us=SHORTEST_US)


def _set(*, nice: int, turn_us: int) -> bool:
    number = _SET.get(platform.machine())
    if number is None or not sys.platform.startswith("linux"):
        return False
    packed = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, turn_us * 1000, 0, 0, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, ctypes.create_string_buffer(packed), 0) == 0)
