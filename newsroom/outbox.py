"""The outbox: outcomes that have happened or will, each until the moment in which word of it is sent. Time is an argument."""

from __future__ import annotations

import heapq
from typing import TypedDict

from feedback.clock import SECOND
from newsroom.arrival import KINDS, Arrivals
from newsroom.requests import Request, item


class Word(TypedDict):
    """An outcome as `OutcomeProducer.send` takes it."""

    request_id: str
    item_id: str
    kind: str
    value: float
    event_time: int
    event_id: str


class Outbox:
    """Outcomes by when they are due, on a clock of the caller's, s."""

    def __init__(self, speed: float) -> None:
        """`speed`: seconds of the world in a second of that clock."""
        self._speed = speed
        self._waiting: list[tuple[float, int, Word]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request, request_id: str, coming: Arrivals, *, now: float, wall_us: int) -> None:
        """The slate was shown now (`wall_us`: the same moment as µs since the epoch): let what comes of it come."""
        for k in range(len(coming)):
            stamped = (float(coming.stamped[k]) - request.t) / self._speed
            word = Word(
                request_id=request_id,
                item_id=item(request.world, int(coming.article[k])),
                kind=KINDS[coming.kind[k]],
                value=float(coming.value[k]),
                event_time=wall_us + round(stamped * SECOND),
                # A repeat has its original's name: that is how the join knows it.
                event_id=f"{request_id}/{coming.event[k]}",
            )
            self._count += 1
            due = now + (float(coming.arrives[k]) - request.t) / self._speed
            heapq.heappush(self._waiting, (due, self._count, word))

    def take(self, now: float) -> list[tuple[float, Word]]:
        """What is due by now, with when it was, in that order."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            due, _, word = heapq.heappop(self._waiting)
            found.append((due, word))
        return found
