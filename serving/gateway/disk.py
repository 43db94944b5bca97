"""When the disk has what was appended: at no set time, every so often, or before each answer.

One sync runs at a time and covers everything appended before it began, so that answers that wait share it.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from serving.gateway.spool import Spool


class Disk:
    """Syncs the spool as `mode` says."""

    def __init__(self, spool: Spool, mode: Literal["never", "interval", "always"], interval_s: float) -> None:
        self._spool, self._mode, self._interval_s = spool, mode, interval_s
        self._syncing: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """With `always`, wait until the disk has all that is appended by now; otherwise return at once."""
        if self._mode != "always":
            return
        position = self._spool.end
        while self._spool.synced < position:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.create_task(asyncio.to_thread(self._spool.sync))
            # Shielded: whoever gives up waiting must not take the sync away from the others.
            await asyncio.shield(self._syncing)

    async def run(self) -> None:
        """With `interval`, sync for ever; otherwise return."""
        while self._mode == "interval":
            await asyncio.sleep(self._interval_s)
            if self._spool.synced < self._spool.end:
                await asyncio.to_thread(self._spool.sync)
