"""A replay: all slates asked, all outcomes told, ticks between and after, in the order that the lanes allow."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from everloop.logs.slates import Slate
from everloop.replay.ask import Asker
from everloop.replay.confirm import Confirmer
from everloop.replay.lanes import Lanes, Told
from everloop.replay.pace import Pace
from everloop.replay.tally import Tally
from everloop.replay.tell import Teller
from feedback.clock import to_us
from feedback.errors import UnavailableError
from feedback.settings import Count, KafkaSettings, NonNegative, Positive

_GLANCE_S = 0.02
"""How long the loop below sleeps at most when nothing is due: it is woken by what happens."""


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """How a log is replayed."""

    gateway: str
    """The gateway's URL."""
    key: str = ""
    """API key with scope replay; needed where keys are configured."""
    speed: NonNegative = 0.0
    """Seconds of event time in a second of the wall. Default 0: as fast as the loop answers."""
    window_s: Positive = 3600.0
    """Attribution window of the join, s."""
    lateness_s: Positive = 60.0
    """Lateness that the join allows, s: events are kept in order to within half of it."""
    most: Count = 32
    """Requests in flight at most. Default 32."""
    most_unconfirmed: Count = 2000
    """Answered slates at most that have not been seen in Kafka. Default 2,000."""
    patience_s: Positive = 30.0
    """How long a request is tried again. Default 30 s."""
    arrival_s: Positive = 180.0
    """How long an answered slate may take to arrive in Kafka before the replay gives up. Default 180 s."""
    tick_s: Positive = 1.0
    """Interval of the ticks, s of the wall. Default 1 s."""
    close: bool = True
    """Whether the last tick lies beyond window and lateness, so that everything settles. Default yes."""


def replay(
    slates: Iterable[Slate],
    *,
    kafka: KafkaSettings,
    settings: ReplaySettings,
    tally: Tally | None = None,
    watch: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Replay slates in the order of their time and return what happened; `watch` is called about each second.

    Raises:
        UnavailableError: Kafka stays away, or predictions that were answered do not arrive in it.
        UsageError: the gateway refuses what the log asks.
    """
    return asyncio.run(_Replay(slates, kafka, settings, tally or Tally(), watch).run())


class _Replay:
    def __init__(
        self,
        slates: Iterable[Slate],
        kafka: KafkaSettings,
        settings: ReplaySettings,
        tally: Tally,
        watch: Callable[[Tally], None],
    ) -> None:
        self._lanes = Lanes(
            slates, spread_us=to_us(settings.lateness_s / 2), most_unconfirmed=settings.most_unconfirmed
        )
        self._kafka, self._settings, self._tally, self._watch = kafka, settings, tally, watch
        self._asking: set[asyncio.Task[None]] = set()
        self._pace = Pace(begin_us=self._lanes.begin, began_s=time.monotonic(), speed=settings.speed)
        self._moved_s = time.monotonic()
        """When something was last answered, confirmed or delivered."""

    async def run(self) -> Tally:
        loop = asyncio.get_running_loop()
        self._something = asyncio.Event()
        self._asker = Asker(
            self._settings.gateway,
            self._tally,
            key=self._settings.key,
            patience_s=self._settings.patience_s,
            most=self._settings.most,
        )
        confirmer = Confirmer(self._kafka, lambda keys: _soon(loop, self._confirmed, keys))
        teller = self._teller = Teller(self._kafka, delivered=lambda told: _soon(loop, self._delivered, told))
        ticking = asyncio.create_task(self._tick())
        try:
            await self._play()
            ticking.cancel()
            if self._settings.close:
                self._close()
            await asyncio.to_thread(teller.flush, self._settings.arrival_s)
            self._watch(self._tally)
        finally:
            ticking.cancel()
            for task in self._asking:
                task.cancel()
            await asyncio.gather(ticking, *self._asking, return_exceptions=True)
            await self._asker.close()
            confirmer.close()
            teller.close()
        return self._tally

    async def _play(self) -> None:
        lanes = self._lanes
        while not lanes.done:
            self._something.clear()
            self._complain()
            if not (self._asked() | self._told()):
                await self._pause()
            else:
                await asyncio.sleep(0)

    def _asked(self) -> bool:
        """Ask what may be asked now."""
        lanes, began = self._lanes, False
        while len(self._asking) < self._settings.most and self._due(lanes.next_ask):
            slate = lanes.ask()
            if slate is None:
                break
            task = asyncio.create_task(self._ask(slate))
            self._asking.add(task)
            began = True
        return began

    def _told(self) -> bool:
        """Tell what may be told now."""
        lanes, began = self._lanes, False
        while self._due(lanes.next_tell):
            told = lanes.tell()
            if told is None:
                break
            self._teller.tell(told)
            began = True
        return began

    def _due(self, event_time: int | None) -> bool:
        return event_time is not None and event_time <= self._pace.event_time(time.monotonic())

    async def _pause(self) -> None:
        """Sleep until something happens or the next is due."""
        due = [each for each in (self._lanes.next_ask, self._lanes.next_tell) if each is not None]
        wait = min((self._pace.wait_s(each, time.monotonic()) for each in due), default=_GLANCE_S)
        try:
            await asyncio.wait_for(self._something.wait(), max(0.001, min(wait or _GLANCE_S, 0.25)))
        except TimeoutError:
            pass

    async def _ask(self, slate: Slate) -> None:
        answered = await self._asker.ask(slate)
        if answered:
            self._lanes.answered(slate.request_id)
        else:
            self._lanes.failed(slate.request_id)
        self._moved()

    def _confirmed(self, keys: list[str]) -> None:
        self._tally.confirmed += len(keys)
        for key in keys:
            self._lanes.confirmed(key)
        self._moved()

    def _delivered(self, told: Told) -> None:
        self._tally.outcomes += 1
        self._lanes.delivered(told)
        self._moved()

    def _moved(self) -> None:
        self._moved_s = time.monotonic()
        self._something.set()

    def _complain(self) -> None:
        """Raise what no waiting will mend."""
        for task in [each for each in self._asking if each.done()]:
            self._asking.discard(task)
            task.result()
        if self._teller.error:
            raise UnavailableError(self._teller.error)
        waited = time.monotonic() - self._moved_s
        if self._lanes.unconfirmed and waited > self._settings.arrival_s:
            raise UnavailableError(f"{self._lanes.unconfirmed} slates have not arrived in Kafka after {waited:.0f} s")

    async def _tick(self) -> None:
        """Each second, say how far event time has come with everything older in Kafka."""
        reached = 0
        while True:
            await asyncio.sleep(self._settings.tick_s)
            now = min(self._lanes.floor() - 1, self._pace.event_time(time.monotonic()))
            if not math.isinf(now) and now > reached:
                reached = self._tally.event_time = int(now)
                self._tally.ticks += self._teller.tick(reached)
            self._watch(self._tally)

    def _close(self) -> None:
        """Tick so far beyond the last window that everything settles, also a slate that opened behind the watermark."""
        beyond_s = self._settings.window_s + 2 * self._settings.lateness_s + 1
        self._tally.event_time = self._lanes.end + to_us(beyond_s)
        self._tally.ticks += self._teller.tick(self._tally.event_time)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., None], argument: object) -> None:
    """Hand over to the loop from another thread; a loop that has ended does not need it any more."""
    try:
        loop.call_soon_threadsafe(call, argument)
    except RuntimeError:
        pass
