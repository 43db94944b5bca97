"""What the gate watches in slates of one origin, each check with what is normal there: log loss, click rate, shares.

Ours and those that something else chose are two origins. Pure, as the gate is.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from feedback.events import REVISION, Sample
from trainer.cusum import Cusum, Share
from trainer.groups import GateSettings

_MEDIAN_OF: Final = 20
_SCATTER: Final = 1.5
"""The scatter that was seen is taken for so much larger: nights and days are not alike."""
_STALLED: Final = 0.05
"""Clicks that still come in a stall, as a share of the normal rate."""
_FORGET: Final = 0.005
"""Share of the reference click rate that each normal look replaces."""


@dataclass(frozen=True)
class Alarm:
    """Something is wrong: which check, by how much, and since which training step."""

    check: str
    value: float
    limit: float
    since_step: int
    """The first step that is suspect: what is older is good."""
    subject: str = ""
    """Whom or what it is about, where it is about somebody."""

    @property
    def reason(self) -> str:
        """The sentence that goes into the models event."""
        about = f" of {self.subject}" if self.subject else ""
        return f"{self.check}{about} is {self.value:.6g}, beyond {self.limit:.6g}; suspect since step {self.since_step}"


class Stream:
    """What is watched of slates of one origin, each check with what is normal there: log loss, click rate, shares."""

    def __init__(self, settings: GateSettings, name: str = "") -> None:
        """`name`: what an alarm calls these slates; empty: slates of our own."""
        self._name = name
        self.loss = Cusum(worst=settings.clip, reference=settings.reference, arm=settings.arm)
        self.rate = ClickRate(settings)
        self._users = Share(size=settings.share_slates, normal=settings.user_share)
        self._items = Share(size=settings.share_slates, normal=settings.item_share)

    def settled(self, x: float, step: int, often: float) -> Alarm | None:
        """Take a settled slate's difference in log loss, model − baseline."""
        if self.loss.add(x, step, often):
            return self._named(Alarm("log_loss_cusum", self.loss.value, self.loss.limit, self.loss.since))
        return None

    def emitted(self, sample: Sample, step: int, often: float) -> Alarm | None:
        """Take a sample's labels."""
        revisions = sample.emissions.count(REVISION)
        positives = len(sample.emissions) - sample.emissions.count(0)
        if revisions < len(sample.emissions) and (found := self._users.add(sample.user_id, step, often)):
            return self._named(Alarm("user_share", found[1], found[2], found[3], f"reader {found[0]}"))
        for emission, item in zip(sample.emissions, sample.items, strict=True) if positives else ():
            if emission and (found := self._items.add(item, step, often)):
                return self._named(Alarm("item_share", found[1], found[2], found[3], f"item {found[0]}"))
        alarm = self.rate.add(len(sample.emissions) - revisions, positives, step, often)
        return self._named(alarm) if alarm else None

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "loss": self.loss.state(),
            "rate": self.rate.state(),
            "users": self._users.state(),
            "items": self._items.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered, read back from MessagePack."""
        self.loss.restore(state["loss"])
        self.rate.restore(state["rate"])
        self._users.restore(state["users"])
        self._items.restore(state["items"])

    def _named(self, alarm: Alarm) -> Alarm:
        return replace(alarm, subject=" in ".join(filter(None, (alarm.subject, self._name))))


class ClickRate:
    """Positives per first emission against the rate that was normal: CUSUMs of log likelihood ratios, down, up, and all but gone.

    For counts that scatter φ times as much as Poisson's, (k ln f − n p (f − 1)) / φ is the log likelihood ratio of a rate f times
    as high, so that a threshold of ln N gives one false alarm in N. φ is learned from looks of `rate_examples` impressions.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._examples, self._factor = settings.rate_examples, settings.rate_factor
        self._looks: deque[float] = deque(maxlen=200)
        """Clicks per impression of normal looks."""
        self._normal, self._scatter = 0.0, 1.0
        self._open = [0, 0]
        self._sides = (
            ("click_rate_low", 1 / self._factor),
            ("click_rate_high", self._factor),
            # A stall is told a third sooner by a test for nothing but it.
            ("click_rate_stalled", min(_STALLED, 1 / self._factor)),
        )
        self._values = [0.0] * len(self._sides)
        self._since = [0] * len(self._sides)
        self._limit = math.inf

    @property
    def suspicion(self) -> float:
        """The greater value as a share of its limit."""
        return max(self._values) / self._limit

    def add(self, firsts: int, positives: int, step: int, often: float) -> Alarm | None:
        """Take a sample's counts."""
        if self._normal:
            self._limit = math.log(max(often, 1000.0))
            for side, (name, factor) in enumerate(self._sides):
                ratio = (positives * math.log(factor) - firsts * self._normal * (factor - 1)) / self._scatter
                self._since[side] = step if self._values[side] <= 0 else self._since[side]
                self._values[side] = max(0.0, self._values[side] + ratio)
                if self._values[side] > self._limit:
                    rate = (self._open[1] + positives) / max(1, self._open[0] + firsts)
                    return Alarm(name, rate, self._normal, self._since[side])
        self._open = [self._open[0] + firsts, self._open[1] + positives]
        if self._open[0] >= self._examples:
            self._look(*self._open)
            self._open = [0, 0]
        return None

    def _look(self, firsts: int, positives: int) -> None:
        """Learn from a look what is normal, unless it is under suspicion."""
        if self.suspicion >= 0.25:
            return
        self._looks.append(positives / firsts)
        if self._normal:
            self._normal += _FORGET * (positives / firsts - self._normal)
        elif len(self._looks) >= _MEDIAN_OF:
            # The median: while labels begin to ripen the first looks may be far off.
            self._normal = max(float(np.median(self._looks)), 1.0 / firsts)
        if self._normal:
            spread = float(np.var(self._looks)) * firsts / self._normal
            self._scatter = max(1.0, _SCATTER * spread)

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        limit = self._limit if math.isfinite(self._limit) else -1.0
        return [list(self._looks), self._normal, self._scatter, self._open, self._values, self._since, limit]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        looks, self._normal, self._scatter, self._open, values, since, limit = state
        # A checkpoint of before there was a test for stalls has none of it.
        missing = len(self._sides) - len(values)
        self._values, self._since = [*values, *[0.0] * missing], [*since, *[0] * missing]
        self._looks = deque(looks, maxlen=200)
        self._limit = math.inf if limit < 0 else limit
