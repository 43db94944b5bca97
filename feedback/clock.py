"""Time as the contract has it: integer microseconds since the Unix epoch, UTC. Durations in configuration are seconds."""

from __future__ import annotations

import time

SECOND = 1_000_000
"""Microseconds in a second."""


def now_us() -> int:
    """Read the wall clock, in microseconds. Only shells call this; the cores take time as an argument."""
    return time.time_ns() // 1_000


def to_us(seconds: float) -> int:
    """Convert a duration in seconds to microseconds, rounded to the nearest."""
    return round(seconds * SECOND)
