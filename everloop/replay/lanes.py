"""What is to be asked and told next: two lanes, each in the order of event time, and how far both have come.

The rule of order: nothing is sent before everything that is older than it by more than `spread_us` has arrived in Kafka.
With a spread below the lateness that the join allows, no prediction comes behind the watermark and no outcome misses its
window, however slow or often killed the parts in between are. A tick for an event time is true once all that is older has
arrived.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from everloop.logs.slates import Happened, Slate
from everloop.replay.frontier import Frontier
from feedback.errors import UsageError


@dataclass(frozen=True, order=True)
class Told:
    """One outcome that waits to be sent; ordered by its time, then as the log has it."""

    event_time: int
    number: int
    request_id: str
    happened: Happened


@dataclass
class _Asked:
    """A slate that was asked for and is not forgotten yet."""

    event_time: int
    outcomes: int
    answered: bool = False
    failed: bool = False
    seen: bool = False
    """Its prediction was seen in Kafka."""
    arrived: bool = False
    """Answered and seen, or given up."""


class Lanes:
    """The pure state of a replay: tell it what has happened, ask it what may happen next."""

    def __init__(self, slates: Iterable[Slate], *, spread_us: int, most_unconfirmed: int) -> None:
        self._slates = iter(slates)
        self._spread, self._most = spread_us, most_unconfirmed
        self._next: Slate | None = next(self._slates, None)
        self._waiting: list[Told] = []
        self._number = 0
        self._asked, self._told = Frontier(), Frontier()
        self._open: dict[str, _Asked] = {}
        self.begin: int = self._next.event_time if self._next else 0
        """Event time of the first slate, µs."""
        self.end: int = self.begin
        """The greatest event time so far, µs."""

    @property
    def next_ask(self) -> int | None:
        """Event time of the next slate, µs; None when there is none."""
        return self._next.event_time if self._next else None

    @property
    def next_tell(self) -> int | None:
        """Event time of the next outcome that the slates asked so far have, µs; None when there is none."""
        self._skip_failed()
        return self._waiting[0].event_time if self._waiting else None

    @property
    def done(self) -> bool:
        """Whether everything has been asked, told and has arrived."""
        return self._next is None and self.next_tell is None and not self._asked and not self._told

    @property
    def unconfirmed(self) -> int:
        """Slates that were asked for and have not arrived in Kafka."""
        return len(self._asked)

    def floor(self) -> float:
        """The least event time of what has not arrived yet, sent or not; infinity at the end."""
        ahead = (each for each in (self.next_ask, self.next_tell) if each is not None)
        return min(self._asked.floor, self._told.floor, *ahead, math.inf)

    def ask(self) -> Slate | None:
        """Take the next slate if the rule of order lets it go now."""
        slate = self._next
        if slate is None or len(self._asked) >= self._most or slate.event_time - self.floor() > self._spread:
            return None
        if slate.request_id in self._open:
            raise UsageError(f"slate {slate.request_id} stands in the log twice: each needs a name of its own")
        self._next = next(self._slates, None)
        self._asked.begin(slate.event_time)
        self._open[slate.request_id] = _Asked(slate.event_time, len(slate.outcomes))
        self.end = max(self.end, slate.event_time)
        for each in slate.outcomes:
            heapq.heappush(self._waiting, Told(each.event_time, self._number, slate.request_id, each))
            self._number += 1
        return slate

    def answered(self, request_id: str) -> None:
        """A request was answered: its reader has seen the slate."""
        self._open[request_id].answered = True
        self._settle(request_id)

    def failed(self, request_id: str) -> None:
        """A request was given up: there is nothing for its reader to click on."""
        self._open[request_id].failed = True
        self._settle(request_id)

    def confirmed(self, request_id: str) -> None:
        """A prediction was seen in Kafka; it may be seen before its answer, more than once, or be a stranger's."""
        if request_id in self._open:
            self._open[request_id].seen = True
            self._settle(request_id)

    def tell(self) -> Told | None:
        """Take the next outcome if no older one can still come and its slate has been answered."""
        if self.next_tell is None:
            return None
        told = self._waiting[0]
        older = self._next is not None and self._next.event_time < told.event_time
        apart = told.event_time - min(self._asked.floor, self._told.floor)
        if older or not self._open[told.request_id].answered or apart > self._spread:
            return None
        heapq.heappop(self._waiting)
        self._told.begin(told.event_time)
        self.end = max(self.end, told.event_time)
        self._forget(told.request_id)
        return told

    def delivered(self, told: Told) -> None:
        """An outcome has arrived in Kafka."""
        self._told.done(told.event_time)

    def _skip_failed(self) -> None:
        while self._waiting and self._open[self._waiting[0].request_id].failed:
            self._forget(heapq.heappop(self._waiting).request_id)

    def _settle(self, request_id: str) -> None:
        entry = self._open[request_id]
        if not entry.arrived and (entry.failed or (entry.answered and entry.seen)):
            entry.arrived = True
            self._asked.done(entry.event_time)
            if not entry.outcomes:
                del self._open[request_id]

    def _forget(self, request_id: str) -> None:
        """One outcome fewer to send; a slate with none left that has arrived is done with."""
        entry = self._open[request_id]
        entry.outcomes -= 1
        if entry.arrived and not entry.outcomes:
            del self._open[request_id]
