"""Whether a version that has just become live makes requests fail. Pure: answers go in, a verdict comes out.

Compared with the time before the swap, not with an ideal: where Redis or the model server is down anyway, a rollback would mend
nothing. Click rates play no part: they fall by night.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from everloop.steer.settings import GuardSettings
from feedback.clock import to_us


@dataclass(frozen=True)
class Alarm:
    """A version under which requests fail."""

    version: int
    share: float
    """Share of requests answered without the model, under it."""
    before: float
    """The same before it."""
    requests: int

    @property
    def reason(self) -> str:
        """In a sentence."""
        return (
            f"{self.share:.1%} of {self.requests} requests since version {self.version} went live were answered without "
            f"the model's scores; {self.before:.1%} before"
        )


class Guard:
    """Watches the answers of the gateway. Times are wall clock, µs, and rise."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._before: deque[bool] = deque(maxlen=20 * settings.requests)
        self._since: deque[bool] = deque(maxlen=20 * settings.requests)
        self._version = self._moved = 0

    def moved(self, version: int, at: int) -> None:
        """A label has moved: from now on the answers are this version's."""
        if version == self._version:
            return
        if self._version:
            self._before.extend(self._since)
        self._since.clear()
        self._version, self._moved = version, at

    def answered(self, failed: bool, at: int) -> None:
        """A request was answered; `failed`: without the model's scores."""
        (self._since if self._version and at >= self._moved else self._before).append(failed)

    def verdict(self, now: int) -> Alarm | None:
        """Say whether the version in force has to go."""
        settings, count = self._settings, len(self._since)
        watched = self._version and now - self._moved <= to_us(settings.watch_s)
        if not settings.enabled or not watched or count < settings.requests or not self._before:
            return None
        share, before = sum(self._since) / count, sum(self._before) / len(self._before)
        if share < settings.share or share < settings.factor * before:
            return None
        return Alarm(self._version, share, before, count)
