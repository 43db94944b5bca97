"""Where a request's work runs: on the event loop when it is short, in a thread when it is not.

A hand-over to a thread and back costs more than a small model's whole run (0.1 ms against 0.05 ms, measured), and threads
that wake each other at every step quarrel over the interpreter lock. But what blocks the loop blocks everybody. So each
kind of work (a signature of a model) starts in a thread, comes to the loop once it has proved short, and leaves it again
at the first run that is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

SHORT_S = 0.001
"""Work whose best recent run took less comes to the loop."""
LONG_S = 0.004
"""Work that took longer on the loop goes back to the threads."""
PROBATION = 8
"""Runs in a thread before work may come to the loop."""
BANISHED = 256
"""Runs in a thread before work that blocked the loop may come back."""


class _Record:
    """What is known of one kind of work."""

    __slots__ = ("best_s", "inline", "runs_left")

    def __init__(self) -> None:
        self.inline = False
        self.runs_left = PROBATION
        self.best_s = float("inf")

    def note_thread(self, took_s: float) -> None:
        self.best_s = min(self.best_s, took_s)
        self.runs_left -= 1
        if self.runs_left <= 0:
            self.inline = self.best_s < SHORT_S
            self.runs_left, self.best_s = PROBATION, float("inf")

    def note_inline(self, took_s: float) -> None:
        if took_s > LONG_S:
            self.inline, self.runs_left, self.best_s = False, BANISHED, float("inf")


class Dispatch:
    """Runs work on the loop or in one of its threads."""

    def __init__(self, threads: int, *, inline: bool = True) -> None:
        """`inline` False: everything in threads."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._inline = inline
        self._records: dict[Hashable, _Record] = {}

    async def __call__(self, kind: Hashable, work: Callable[[], T]) -> T:
        """The result of `work`; `kind` None is never run on the loop."""
        record = None if kind is None else self._records.get(kind)
        if record is not None and record.inline and self._inline:
            began = time.perf_counter()
            try:
                return work()
            finally:
                record.note_inline(time.perf_counter() - began)
        if record is None and kind is not None:
            record = self._records.setdefault(kind, _Record())
        return await asyncio.get_running_loop().run_in_executor(self._pool, _timed, work, record)

    def close(self) -> None:
        """Start no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(work: Callable[[], T], record: _Record | None) -> T:
    began = time.perf_counter()
    try:
        return work()
    finally:
        if record is not None:
            record.note_thread(time.perf_counter() - began)
