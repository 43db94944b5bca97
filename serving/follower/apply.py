"""Deltas into one loaded version: a thread with its own place in the log, so that the old and the new base go on side by side.

Never skips, never applies twice: what is sent follows on what the model answered last, and the graph itself checks the same
once more. After a failed call nobody knows whether the delta was applied; it is sent again, and the answer tells.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from feedback.clock import now_us
from feedback.errors import EverloopError, UnavailableError
from serving.follower.log import Delta, DeltaLog
from serving.follower.order import Position, Rule, Verdict, judge
from serving.follower.server import ModelServer, NotLoadedError
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")

T = TypeVar("T")

_STUCK_AFTER = 20
"""Answers that a delta changed nothing, where it should have fitted, before that counts as a fault of the delta."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a version has come; replaced whole, so that any thread may read it."""

    at: Position
    known: bool = False
    """Whether the model has said where it is."""
    caught_up: bool = False
    """Whether nothing is left in the log for it (or what is left is held back)."""
    stuck: str = ""
    """Why it can't go on."""
    waiting: str = ""
    """What it waits for just now: the model server, Kafka."""
    applied: int = 0
    """Deltas that this thread has applied."""
    retries: int = 0
    """Calls that failed."""
    passed: int = 0
    """Checksums that held."""
    failed: int = 0
    """Checksums that did not."""
    watermark: int = 0
    """Event time up to which the last applied delta's labels are complete, µs."""


@dataclass(frozen=True)
class Applied:
    """Deltas that a version has just been given."""

    version: int
    deltas: list[Delta]
    time: int
    """Wall clock, µs."""
    seconds: float
    """How long the call took."""


class _Pause:
    """The pause before the next try: doubles up to a limit."""

    def __init__(self, settings: FollowerSettings) -> None:
        self._first_s, self._most_s = settings.retry_first_s, settings.retry_most_s
        self.reset()

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._s = self._first_s

    def next_s(self) -> float:
        """The pause to make now, in seconds."""
        pause, self._s = self._s, min(2 * self._s, self._most_s)
        return pause


class Feeder(threading.Thread):
    """Feeds one loaded version until it is told to stop."""

    def __init__(
        self,
        version: int,
        deltas: DeltaLog,
        server: ModelServer,
        settings: FollowerSettings,
        *,
        rule: Rule,
        on_applied: Callable[[Applied], None],
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(name=f"feeder-{version}", daemon=True)
        self.version, self.progress = version, Progress(at=Position(0, 0))
        self._log, self._server, self._settings = deltas, server, settings
        self._rule = rule
        self._on_applied, self._on_change = on_applied, on_change
        self._queue: deque[Delta] = deque()
        self._end = 0
        self._refusals = 0
        self._wake = threading.Event()
        self._stopped = threading.Event()

    @property
    def rule(self) -> Rule:
        """What holds for its deltas."""
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        self._rule = rule
        self._wake.set()

    def stop(self) -> None:
        """End the thread; it ends within one call."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Feed; begin again, from what the model answers, whenever the log was away."""
        pause = _Pause(self._settings)
        while not self._stopped.is_set():
            try:
                self._log.open()
                self._begin()
                while not self._stopped.is_set():
                    self._round()
                    pause.reset()
            except UnavailableError as error:
                self._set(waiting=str(error))
                log.warning("version %s: %s", self.version, error)
            except NotLoadedError as error:
                self._set(waiting=str(error), known=False, caught_up=False)
            except EverloopError as error:
                self._set(stuck=str(error))
                log.error("version %s: %s", self.version, error)
            finally:
                self._log.close()
            self._stopped.wait(pause.next_s())

    def _begin(self) -> None:
        """Ask the model where it is and go there in the log."""
        self._queue.clear()
        at = self._patiently(lambda: self._server.ask(self.version))
        self._log.seek(at)
        self._end = self._log.end()
        self._refusals = 0
        self._set(at=at, known=True, waiting="", stuck="")

    def _round(self) -> None:
        """Take what has come, apply what fits, say whether anything is left."""
        self._wake.clear()
        if self.progress.stuck:
            # What is missing does not come any more: only a base helps, and that has a feeder of its own.
            self._wake.wait(self._settings.retry_most_s)
            return
        tail = False
        if not self._queue:
            self._queue.extend(self._log.poll(0.2))
            tail = not self._queue
        while self._queue and not self._stopped.is_set() and self._step():
            pass
        held = bool(self._queue) and self._held()
        caught_up = held or (not self._queue and (tail or self.progress.caught_up or self._log.at() >= self._end))
        if caught_up != self.progress.caught_up:
            self._set(caught_up=caught_up)
        if self._queue:
            self._wake.wait(0.02)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call the model server until it answers: a call that failed may have done its work all the same."""
        pause = _Pause(self._settings)
        while True:
            try:
                answer = call()
            except UnavailableError as error:
                self._set(waiting=str(error), retries=self.progress.retries + 1)
                if self._stopped.wait(pause.next_s()):
                    raise
                continue
            if self.progress.waiting:
                self._set(waiting="")
            return answer

    def _held(self) -> bool:
        return judge(self._queue[0].header, self.progress.at, self._rule) is Verdict.HELD

    def _step(self) -> bool:
        """Deal with the first of the queue; answer whether to go on at once."""
        first = self._queue[0]
        match judge(first.header, self.progress.at, self._rule):
            case Verdict.PASS:
                self._queue.popleft()
            case Verdict.CHECK:
                self._check(self._queue.popleft())
            case Verdict.HELD:
                return False
            case Verdict.GAP:
                h, at = first.header, self.progress.at
                self._set(
                    stuck=f"gap: the next delta follows on {h.previous}, the model is at {at.sequence} of epoch {at.epoch}"
                )
                return False
            case Verdict.NEWER:
                self._set(
                    stuck=f"epoch {first.header.epoch} begins with a base of its own, the model is of {self.progress.at.epoch}"
                )
                return False
            case Verdict.APPLY:
                self._apply(self._batch())
        return True

    def _batch(self) -> list[Delta]:
        """The deltas from the first of the queue on that fit one after another, as many as go into one call."""
        batch: list[Delta] = []
        at, size = self.progress.at, 0
        for delta in self._queue:
            size += len(delta.value)
            full = len(batch) >= self._settings.batch or (batch and size > self._settings.batch_bytes)
            if full or judge(delta.header, at, self._rule) is not Verdict.APPLY:
                break
            batch.append(delta)
            at = Position(delta.header.epoch, delta.header.sequence)
        return batch

    def _apply(self, batch: list[Delta]) -> None:
        start = time.perf_counter()
        values = [delta.value for delta in batch]
        answer = self._patiently(lambda: self._server.sync(self.version, values))
        before, at = self.progress.at, answer.position
        if at < before:
            log.warning(
                "version %s went back from %s to %s: the model server has loaded it anew", self.version, before, at
            )
            self._begin()
            return
        done = [delta for delta in batch if Position(delta.header.epoch, delta.header.sequence) <= at]
        for _ in done:
            self._queue.popleft()
        if not done:
            self._refused(batch[0], at)
            return
        self._refusals = 0
        last = done[-1].header
        self._set(at=at, applied=self.progress.applied + len(done), watermark=last.watermark, stuck="")
        self._on_applied(Applied(self.version, done, now_us(), time.perf_counter() - start))

    def _refused(self, delta: Delta, at: Position) -> None:
        """The graph left the model as it was, where the header says that the delta fits."""
        self._refusals += 1
        if self._refusals >= _STUCK_AFTER:
            self._set(
                stuck=f"delta {delta.header.sequence} changes nothing on a model at {at.sequence} of epoch {at.epoch}"
            )
        self._wake.wait(min(self._settings.retry_first_s * self._refusals, self._settings.retry_most_s))

    def _check(self, delta: Delta) -> None:
        answer = self._patiently(lambda: self._server.checksum(self.version, delta.value))
        header = delta.header
        if answer.sequences[0] != header.sequence:
            return
        if answer.values[0] == header.expected:
            self._set(passed=self.progress.passed + 1)
            return
        log.error(
            "version %s differs from the trainer at sequence %s: checksum %s, expected %s",
            self.version,
            header.sequence,
            answer.values[0],
            header.expected,
        )
        self._set(failed=self.progress.failed + 1)

    def _set(self, **changes: object) -> None:
        before = self.progress
        self.progress = replace(before, **changes)  # type: ignore[arg-type]
        notable = ("caught_up", "stuck", "failed", "known", "waiting")
        if any(getattr(before, name) != getattr(self.progress, name) for name in notable):
            self._on_change()
