"""The newsroom's readers as real clients of a running loop: slates over HTTP from the gateway, outcomes to Kafka, at any speed.

Time is the wall's. At speed s the world's seconds pass s times as fast; its delays between impression, click and dwell, its lateness and
the errors of its clocks shrink with them. The world has an article's popularity, its readers' tastes and the luck of every click before
anybody asks; what the loop decides is which articles are shown.

Requests go out at their times, however long the answers take, up to `connections` at once. Where the loop or this machine can't keep up
they go out late, and the tally says how late: nothing is left out.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from feedback.clock import now_us
from feedback.errors import EventError, EverloopError, UnavailableError, UsageError
from feedback.produce import OutcomeProducer
from feedback.settings import KafkaSettings
from newsroom.arrival import arrivals
from newsroom.articles import DAY
from newsroom.outbox import Outbox
from newsroom.requests import FRONT_PAGE, Request, requests
from newsroom.tally import Tally
from newsroom.world import World
from serving.client import AsyncClient
from serving.gateway.messages import RecommendResponse

_TICK_S: Final = 0.005
_WATCH_S: Final = 1.0
_BUFFERED: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """How the readers meet the loop."""

    gateway: str
    """URL of the gateway."""
    kafka: KafkaSettings
    """Where outcomes go."""
    key: str = ""
    """API key with scope recommend (and outcomes, for the front page), where keys are configured."""
    speed: float = 1.0
    """Seconds of the world in a second. Default 1."""
    start_s: float = 43_200.0
    """Where in the world it begins, s; it begins at midnight. Default 43,200: noon."""
    duration_s: float = 0.0
    """How much of the world is lived through, s; 0: all that is left of it. Default 0."""
    linger_s: float = 120.0
    """For how long after that outcomes are still sent, s of the world. Default 120."""
    connections: int = 64
    """Requests in flight at most. Default 64."""
    front_page: bool = False
    """Report the headlines that each reader has noticed on the front page, which the loop has not chosen, and which of them he opened.
    Default false."""
    patience_s: float = 10.0
    """For how long a request is tried, and at the end Kafka waited for, s. Default 10."""

    def check(self, days: float) -> None:
        """Raise UsageError where a value is impossible in a world of so many days."""
        if not self.gateway.startswith(("http://", "https://")):
            raise UsageError(f"gateway = {self.gateway!r}: a URL, http://HOST:PORT")
        for name, value in (("speed", self.speed), ("patience", self.patience_s)):
            if not value > 0:
                raise UsageError(f"{name} = {value:g}: above 0")
        for name, value in (("duration", self.duration_s), ("linger", self.linger_s)):
            if not value >= 0:
                raise UsageError(f"{name} = {value:g} s: not below 0")
        if not 0 <= self.start_s < days * DAY:
            raise UsageError(f"start = {self.start_s:g} s: from 0 to before the world's end, {days * DAY:g}")
        if self.start_s + self.duration_s > days * DAY:
            raise UsageError(
                f"duration = {self.duration_s:g} s from {self.start_s:g} s: the world ends at {days * DAY:g} s; give it more days"
            )
        if self.connections < 1:
            raise UsageError(f"connections = {self.connections}: 1 at least")


class Live:
    """One run of a world against a loop."""

    def __init__(
        self,
        world: World,
        settings: LiveSettings,
        *,
        tally: Tally | None = None,
        watch: Callable[[Tally], None] | None = None,
    ) -> None:
        """`tally`: one to go on with; `watch`: called about once a second.

        Raises:
            UsageError: a setting is impossible, or nobody comes in the time asked for.
        """
        settings.check(world.settings.days)
        self.world, self.settings = world, settings
        self.tally = Tally() if tally is None else tally
        end_s = min(settings.start_s + (settings.duration_s or np.inf), world.settings.days * DAY)
        first, last = np.searchsorted(world.visits.t, [settings.start_s, end_s]).tolist()
        if first == last:
            raise UsageError(f"nobody comes between {settings.start_s:g} s and {end_s:g} s of the world")
        self.visits = world.visits.part(slice(first, last))
        self.tally.wanted_per_s = (last - first) / (end_s - settings.start_s) * settings.speed
        self._watch = watch or (lambda _tally: None)
        self._outbox = Outbox(settings.speed)
        self._asked_to_stop = threading.Event()
        self._refusal: EventError | UsageError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Ask no more; answers on their way and outcomes that are due are waited for. Any thread or signal handler may call it."""
        self._asked_to_stop.set()
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._stopping.set)

    def run(self) -> Tally:
        """Live through it; return when all is asked, answered and sent.

        Raises:
            EventError, UsageError: the gateway refuses a request for what it says or who asks.
            UnavailableError: the first request finds no gateway.
        """
        producer = OutcomeProducer(
            self.settings.kafka,
            max_buffered=_BUFFERED,
            delivery_timeout_s=self.settings.patience_s,
            on_error=self._complain,
        )
        confirmed = self.tally.confirmed
        try:
            asyncio.run(self._live(producer))
        finally:
            try:
                producer.close(self.settings.patience_s)
            except UnavailableError as error:
                self.tally.kafka_error = str(error)
            self.tally.confirmed = confirmed + producer.confirmed
        if self._refusal is not None:
            raise self._refusal
        return self.tally

    def _complain(self, _: dict[str, Any], error: EverloopError) -> None:
        self.tally.kafka_error = str(error)

    async def _live(self, producer: OutcomeProducer) -> None:
        settings, self._stopping = self.settings, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._asked_to_stop.is_set():
            self._stopping.set()
        client = AsyncClient(
            settings.gateway, key=settings.key, deadline_s=settings.patience_s, connections=settings.connections
        )
        try:
            async with client:
                # Alone and before the clock: whether there is a gateway at all, and one that takes this key.
                await self._visit(client, next(self._requests(slice(0, 1))), strict=True)
                beside = [asyncio.create_task(self._tell(producer)), asyncio.create_task(self._report())]
                try:
                    await self._ask(client)
                    await self._linger()
                finally:
                    for task in beside:
                        task.cancel()
                    ended = await asyncio.gather(*beside, return_exceptions=True)
                self._send(producer)
                if failed := [each for each in ended if isinstance(each, Exception)]:
                    raise failed[0]
        finally:
            self._loop = None
            self.tally.unsent += len(self._outbox)

    async def _ask(self, client: AsyncClient) -> None:
        """Every visit at its time."""
        settings, tally = self.settings, self.tally
        room, begun, before = asyncio.Semaphore(settings.connections), time.monotonic(), tally.elapsed_s
        async with asyncio.TaskGroup() as asking:
            for request in self._requests(slice(1, None)):
                due = begun + (request.t - settings.start_s) / settings.speed
                await self._pause(due - time.monotonic())
                await room.acquire()
                if self._stopping.is_set():
                    break
                tally.begun(time.monotonic() - due)
                asking.create_task(self._visit(client, request)).add_done_callback(lambda _: room.release())
                tally.elapsed_s = before + time.monotonic() - begun

    def _requests(self, which: slice) -> Iterator[Request]:
        return requests(self.world, self.visits.part(which), front_page=self.settings.front_page)

    async def _visit(self, client: AsyncClient, request: Request, *, strict: bool = False) -> None:
        """One reader opens one article: ask for the slate beside it, and do with it what the world says."""
        tally = self.tally
        if strict:
            tally.begun(0.0)
        try:
            if self.settings.front_page:
                await self._report_front_page(client, request)
            begun = time.monotonic()
            answer = await client.recommend(
                request.user,
                candidates=request.candidates,
                count=self.world.settings.slates.positions,
                context=request.context,
            )
            tally.answer_s.append(time.monotonic() - begun)
            self._react(request, answer)
        except UnavailableError as error:
            if strict:
                raise
            tally.errors[_kind(error)] += 1
        except (EventError, UsageError) as error:
            if strict:
                raise
            # It would refuse the next one too: end the run, and say so.
            self._refusal = error
            self._stopping.set()

    async def _report_front_page(self, client: AsyncClient, request: Request) -> None:
        answer = await client.observe(request.user, items=request.front, context=request.context | {"page": FRONT_PAGE})
        opened = request.opened()
        self.tally.front.add(opened)
        self.tally.unlogged += not answer.logged
        coming = arrivals(self.world.settings.arrival, request.visit, opened.slate, opened.clicked)
        self._outbox.put(request, answer.request_id, coming, now=time.monotonic(), wall_us=now_us())

    def _react(self, request: Request, answer: RecommendResponse) -> None:
        reaction = request.react([item.id for item in answer.items])
        self.tally.answered(
            reaction,
            policy=answer.policy,
            version=answer.model.version,
            fallback=answer.fallback,
            logged=answer.logged,
        )
        if reaction.clicked.any():
            coming = arrivals(self.world.settings.arrival, request.visit, reaction.slate, reaction.clicked)
            self.tally.coming(request.t, coming)
            self._outbox.put(request, answer.request_id, coming, now=time.monotonic(), wall_us=now_us())

    async def _tell(self, producer: OutcomeProducer) -> None:
        while True:
            self._send(producer)
            await asyncio.sleep(_TICK_S)

    def _send(self, producer: OutcomeProducer) -> None:
        """Send what is due."""
        now = time.monotonic()
        for due, word in self._outbox.take(now):
            producer.send(**word)
            self.tally.sent[word["kind"]] += 1
            self.tally.outcomes_behind_s = max(self.tally.outcomes_behind_s, now - due)

    async def _linger(self) -> None:
        end = time.monotonic() + self.settings.linger_s / self.settings.speed
        while self._outbox and not self._stopping.is_set() and (left := end - time.monotonic()) > 0:
            await self._pause(min(left, _TICK_S))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            self._watch(self.tally)

    async def _pause(self, wait_s: float) -> None:
        """Wait, but not once it is asked to stop; let others go on in any case."""
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        except TimeoutError:
            pass


def _kind(error: UnavailableError) -> str:
    """Why there was no answer, without what differs from one request to the next."""
    return "no answer" if "no answer within" in str(error) else str(error)
