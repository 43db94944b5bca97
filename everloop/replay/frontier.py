"""The event time below which everything is done: what makes a tick true, and what keeps events in order enough."""

from __future__ import annotations

import heapq
import math
from collections import Counter


class Frontier:
    """A multiset of the event times of what has begun and is not done.

    >>> frontier = Frontier()
    >>> frontier.begin(5); frontier.begin(7); frontier.done(5)
    >>> frontier.floor
    7
    """

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._count: Counter[int] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def begin(self, event_time: int) -> None:
        """Add one."""
        if not self._count[event_time]:
            heapq.heappush(self._heap, event_time)
        self._count[event_time] += 1
        self._size += 1

    def done(self, event_time: int) -> None:
        """Take one away. Raises KeyError if none is there."""
        if not self._count[event_time]:
            raise KeyError(event_time)
        self._count[event_time] -= 1
        self._size -= 1

    @property
    def floor(self) -> float:
        """The least event time that is not done; infinity when all is done."""
        while self._heap and not self._count[self._heap[0]]:
            del self._count[heapq.heappop(self._heap)]
        return self._heap[0] if self._heap else math.inf
