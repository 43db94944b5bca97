"""One whole demo: start the parts, replay the log, show it, wait until every label is final, judge it and write the report."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from everloop.demo import folder as folders_of
from everloop.demo import profile
from everloop.demo.measure import Happened, measure, missed
from everloop.demo.observe import Observer
from everloop.demo.progress import settled
from everloop.demo.report import shown, write
from everloop.demo.screen import Screen, screen
from everloop.demo.views import Looks
from everloop.figures import Report
from everloop.folders import Folders
from everloop.logs.catalogue import find
from everloop.logs.slates import Log
from everloop.loop import running
from everloop.replay.run import ReplaySettings, replay
from everloop.replay.tally import Tally
from everloop.runtime.parts import Event, State
from everloop.runtime.supervise import Supervisor
from everloop.session import open_session
from feedback.clock import SECOND, now_us, to_us
from feedback.errors import EverloopError, UnavailableError, UsageError
from feedback.settings import KafkaSettings

NEWS_SLATES = 20_000
"""How many slates of a log that is not MovieLens are replayed unless told otherwise."""
_LOOK_S = 1.0
_SHOWN_STATES = (State.RESTARTING, State.FAILED)


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo is told."""

    data: Path
    """Its data folder; emptied when it begins."""
    log: str = "movielens"
    """`movielens`, or the path of a log."""
    mapping: str = ""
    """Mapping file, or the name of a shipped one."""
    limit: int | None = None
    """Slates at most; 0: all. Default: all of MovieLens, 20,000 of another log."""
    speed: float = 0.0
    """Seconds of the log in a second of the wall; 0: so that the replay takes `replay_s`."""
    replay_s: float = 200.0
    """How long the replay should take where no speed is given, s. Default 150."""
    ready_s: float = 240.0
    """How long the parts may take to start, s. Default 240."""
    model_s: float = 60.0
    """How long the first version may take to go live before the replay begins without it, s. Default 60."""
    settle_s: float = 120.0
    """How long the last labels may take to settle after the replay, s. Default 120."""


@dataclass
class Done:
    """A finished demo."""

    report: Report
    page: Path
    document: Path
    status: int = 0
    """0, or 1 where an impression or a request was lost."""


def demo(settings: DemoSettings) -> Done:
    """Run the demo.

    Raises:
        UsageError: the log or the folder can't be used.
        UnavailableError: a part can't be started, or the loop stands still.
    """
    began_s = time.monotonic()
    with screen() as shows:
        log = find(settings.log, settings.mapping, say=shows.say)
        limit = _limit(settings)
        span = _Span.of(log, limit)
        shows.say(f"{log.mapping.name}: {span.slates:,} slates over {_days(span.length_s)}")
        folders = folders_of.begin(settings.data)
        happened = _Demo(settings, log, limit, span, folders, shows, began_s).run()
        found = measure(happened)
        page, document = write(folders.root, happened, found)
        status = _judge(found, shows.say)
        shows.say(f"report: {page}")
    return Done(found, page, document, status)


@dataclass(frozen=True)
class _Span:
    """How many slates there are, and how long they take."""

    slates: int
    length_s: float

    @classmethod
    def of(cls, log: Log, limit: int) -> _Span:
        slates, first, last = 0, 0, 0
        for slate in log.slates(limit=limit):
            first = slate.event_time if not slates else first
            last = slate.event_time
            slates += 1
        if not slates:
            raise UsageError(f"{log.file}: no slate in it")
        return cls(slates, (last - first) / SECOND)


@dataclass
class _Demo:
    settings: DemoSettings
    log: Log
    limit: int
    span: _Span
    folders: Folders
    shows: Screen
    began_s: float
    tally: Tally = field(default_factory=Tally)
    parts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def run(self) -> Happened:
        """Start, replay, wait, collect."""
        file = self.folders.root / "everloop.toml"
        mapping = self.log.mapping
        head = f"Written by `everloop demo` for the log {mapping.name}."
        file.write_text(profile.written(profile.settings(mapping), head), encoding="utf-8")
        session = open_session(self.folders.root, file)
        self.shows.say(f"starting every part in {self.folders.root}")
        with running(session, tell=self._tell) as supervisor:
            supervisor.wait_ready(timeout_s=self.settings.ready_s)
            self.shows.say(f"ready after {time.monotonic() - self.began_s:.1f} s")
            kafka = replace(session.loaded.config.kafka, bootstrap=supervisor.addresses["kafka"])
            observer = Observer(kafka)
            try:
                return self._observed(supervisor, kafka, observer)
            finally:
                observer.close()

    def _observed(self, supervisor: Supervisor, kafka: KafkaSettings, observer: Observer) -> Happened:
        self._wait_for_model(supervisor, observer)
        begun_us = now_us()
        looks = Looks(self.tally, observer, lambda: settled_rows(self.folders), supervisor, total=self.span.slates)
        playing = _Playing(lambda: self._replay(kafka, supervisor.addresses["gateway"]))
        while not playing.wait(_LOOK_S):
            self._glance(supervisor, looks)
        playing.result()
        self.shows.say("the log is through; waiting until every label is final")
        deadline = time.monotonic() + self.settings.settle_s
        while not self._settled(observer, len(looks.rows())) and time.monotonic() < deadline:
            self._glance(supervisor, looks)
            time.sleep(_LOOK_S)
        if time.monotonic() >= deadline:
            self.shows.say(f"not all labels are final after {self.settings.settle_s:g} s")
        self.shows.show(looks.view())
        return Happened(
            log=self.log.mapping.name,
            tally=self.tally,
            ledger=observer.ledger(),
            residual=observer.residual(),
            sample_residual=observer.sample_residual(),
            served=list(observer.served),
            learned=observer.learned,
            events=list(observer.events),
            rows=looks.rows(),
            restarts={each: runner.restarts for each, runner in supervisor.runners.items()},
            first_answer_s=(self.tally.first_answer_s or math.nan) - self.began_s,
            duration_s=time.monotonic() - self.began_s,
            begun_us=begun_us,
            parts=self.parts,
        )

    def _wait_for_model(self, supervisor: Supervisor, observer: Observer) -> None:
        """Wait until the first version is live; a loop that has none by then answers with its fallback, and goes on."""
        deadline = time.monotonic() + self.settings.model_s
        while not observer.live() and time.monotonic() < deadline:
            if failed := supervisor.failed():
                raise UnavailableError(f"{failed.part.name} can't be started: {failed.detail}")
            time.sleep(0.1)
        found = f"version {observer.live()[0].version} is live" if observer.live() else "no version is live yet"
        self.shows.say(f"{found} after {time.monotonic() - self.began_s:.1f} s; replaying")

    def _replay(self, kafka: KafkaSettings, gateway: str) -> None:
        mapping = self.log.mapping
        speed = self.settings.speed or self.span.length_s / self.settings.replay_s
        asked = ReplaySettings(
            gateway=gateway, speed=speed, window_s=mapping.window_s, lateness_s=max(mapping.lateness_s, 1e-3)
        )
        replay(self.log.slates(limit=self.limit), kafka=kafka, settings=asked, tally=self.tally)

    def _glance(self, supervisor: Supervisor, looks: Looks) -> None:
        if failed := supervisor.failed():
            raise UnavailableError(f"{failed.part.name} can't be started: {failed.detail}")
        self.shows.show(looks.view())

    def _settled(self, observer: Observer, rows: int) -> bool:
        """Whether the last tick has passed every window, and the trainer has counted every label."""
        ledger = observer.ledger()
        reached = self.tally.event_time - 2 * to_us(self.log.mapping.lateness_s)
        return (
            ledger.impressions >= self.tally.impressions
            and not ledger.open
            and all(each.watermark >= reached for each in observer.progress.values())
            and rows >= ledger.settled_negative + ledger.settled_positive
        )

    def _tell(self, event: Event) -> None:
        self.parts.setdefault(event.part, []).append((now_us(), str(event.state)))
        if event.state in _SHOWN_STATES or event.detail:
            self.shows.say(f"{datetime.now():%H:%M:%S}  {event.part}  {event.state}  {event.detail}")


class _Playing:
    """The replay on a thread of its own."""

    def __init__(self, play: Callable[[], None]) -> None:
        self._play = play
        self._error: EverloopError | None = None
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def result(self) -> None:
        """Raise what ended it, if something did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._play()
        except EverloopError as error:
            self._error = error


def settled_rows(folders: Folders) -> NDArray[Any]:
    """The settled rows of the one model line that this run has; none before the trainer has begun."""
    found = sorted((folders.root / "trainer").glob("*/settled-*.bin"))
    return settled(found[0].parent if found else folders.root)


def _limit(settings: DemoSettings) -> int:
    if settings.limit is not None:
        return settings.limit
    return 0 if settings.log == "movielens" else NEWS_SLATES


def _judge(found: Report, say: Callable[[str], None]) -> int:
    """Say which figures are not met; the exit status."""
    status = 0
    for target, value in missed(found):
        figure = next(each for each in found.figures if each.name == target.name)
        say(f"not met: {target.name} = {shown(figure)}, wanted {target.wanted}")
        # NaN and all else that is no 0 counts as lost.
        status = 1 if target.fatal and value != 0 else status
    return status


def _days(length_s: float) -> str:
    return f"{length_s / 86_400:.1f} days" if length_s >= 2 * 86_400 else f"{length_s / 3_600:.1f} hours"
