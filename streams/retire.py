"""Stop an aiokafka client without waiting for it.

A consumer's fetch task now and then swallows its cancellation (asyncio.wait inside aiokafka 0.14's fetcher), and `stop` then waits for
ever; cancelled a second time it ends.
"""

from __future__ import annotations

import asyncio
from typing import Any

from streams.log import logger

_TIMEOUT_S = 3.0
_ending: set[asyncio.Task[None]] = set()


async def stop(client: Any) -> None:
    """Stop a client; where it does not end, cancel it again."""
    try:
        await asyncio.wait_for(client.stop(), _TIMEOUT_S)
    except TimeoutError:
        logger.warning("a Kafka client did not stop in %g s; it was cancelled", _TIMEOUT_S)


def later(client: Any) -> None:
    """Stop a client in the background: nothing waits for it."""
    task = asyncio.ensure_future(stop(client))
    _ending.add(task)
    task.add_done_callback(_ending.discard)
