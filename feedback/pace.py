"""The pace of a load that does not wait for its answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator


async def beats(rate: float, seconds: float) -> AsyncIterator[float]:
    """The moments, of `time.monotonic`, at which `rate` things a second are due, for `seconds`: each comes when it is due, or late.

    What is late is not left out: a load that waited for its answers would not see how long they take (coordinated omission; Tene, How
    not to measure latency, 2013).
    """
    begin = time.monotonic()
    for number in range(round(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield due
