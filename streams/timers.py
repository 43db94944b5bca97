"""Timers in event time: what is due before the watermark, without looking at what is not.

Things due in the same second share a bucket; a heap holds the seconds, not the things. So adding costs a list's append and a
million open slates cost nothing until their second has come.
"""

from __future__ import annotations

import heapq
from bisect import insort_left
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from feedback.clock import SECOND


class Due(Protocol):
    """Something with a time."""

    due: int
    """Event time, µs."""


T = TypeVar("T", bound=Due)


class Timers(Generic[T]):
    """Things in the order of their seconds; those of the second that the watermark stands in, in exact order."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._seconds: list[int] = []
        self._current: list[T] = []
        self._until = 0

    def add(self, thing: T) -> None:
        """Set a timer at `thing.due`, which must not change until it is taken."""
        due = thing.due
        if due < self._until:
            insort_left(self._current, thing, key=_latest_first)
            return
        second = due // SECOND
        bucket = self._buckets.get(second)
        if bucket is None:
            self._buckets[second] = [thing]
            heapq.heappush(self._seconds, second)
        else:
            bucket.append(thing)

    def take(self, now: int) -> Iterator[T]:
        """Take what is due before `now`, exactly; within a second in no particular order."""
        yield from self._take_current(now)
        while self._seconds and self._seconds[0] * SECOND < now:
            second = heapq.heappop(self._seconds)
            bucket = self._buckets.pop(second)
            if (second + 1) * SECOND <= now:
                yield from bucket
            else:
                self._open(second, bucket)
                yield from self._take_current(now)

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Forget the timers of things that are not wanted."""
        for second, bucket in list(self._buckets.items()):
            bucket[:] = filter(wanted, bucket)
            if not bucket:
                del self._buckets[second]
        self._seconds = sorted(self._buckets)
        self._current = list(filter(wanted, self._current))

    def _open(self, second: int, bucket: list[T]) -> None:
        self._until = (second + 1) * SECOND
        self._current = sorted((*reversed(bucket), *self._current), key=_latest_first)

    def _take_current(self, now: int) -> Iterator[T]:
        # What is taken may set its next timer in this very second: look at the list anew each time.
        while (current := self._current) and current[-1].due < now:
            yield current.pop()


def _latest_first(thing: Due) -> int:
    return -thing.due
