"""Predictions and outcomes of a time range to labelled slates. Pure: two iterables in, slates out.

The label is the one the join would give (its rule, its window), once it is final: slates whose window is still open are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from feedback.clock import to_us
from feedback.errors import UsageError
from feedback.events import Outcome, Prediction, Tick
from streams.labels import NOTHING, Rule
from streams.settings import JoinSettings, LabelSettings


@dataclass(frozen=True)
class Span:
    """Event times from `start` up to but not including `end`, µs."""

    start: int = 0
    end: int = 253_402_300_800_000_000

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise UsageError(f"from {self.start} to {self.end} µs: the range must end after it begins")

    def __contains__(self, time: int) -> bool:
        return self.start <= time < self.end


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One slate and what it brought."""

    prediction: Prediction
    clicked: list[bool]
    """Whether each position's label is positive."""


@dataclass(frozen=True)
class Rules:
    """What the join goes by."""

    join: JoinSettings = field(default_factory=JoinSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)


class Partition:
    """The predictions and outcomes of one partition; feed all, then ask for the slates."""

    def __init__(self, span: Span, rules: Rules) -> None:
        self._span, self._rule = span, Rule(rules.labels)
        self._before, self._after = to_us(rules.join.skew_s), to_us(rules.join.window_s)
        self._lateness = to_us(rules.join.lateness_s)
        self._predictions: dict[str, Prediction] = {}
        self._outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
        self._clocks = {"predictions": 0, "outcomes": 0}
        self.left_out: Counter[str] = Counter()
        """How many slates are not answered, by reason."""

    def feed(self, topic: str, events: Iterable[Prediction | Outcome | Tick]) -> None:
        """Take the records of one topic, in any order."""
        for event in events:
            self._clocks[topic] = max(self._clocks[topic], event.event_time)
            if isinstance(event, Prediction):
                self._predict(event)
            elif isinstance(event, Outcome) and self._near(event.event_time):
                self._outcomes[event.request_id].append(event)

    def slates(self) -> Iterator[Labelled]:
        """Every slate of the range whose label is final."""
        watermark = min(self._clocks.values()) - self._lateness
        for request, prediction in self._predictions.items():
            if prediction.event_time + self._after > watermark:
                self.left_out["unsettled"] += 1
            else:
                clicked = self._labels(prediction, self._outcomes.get(request, ()))
                yield Labelled(prediction=prediction, clicked=clicked)

    def _predict(self, event: Prediction) -> None:
        if event.event_time in self._span:
            # The gateway may send one twice after a crash: the first counts, as it does for the join.
            self._predictions.setdefault(event.request_id, event)

    def _near(self, time: int) -> bool:
        return self._span.start - self._before <= time < self._span.end + self._after

    def _labels(self, prediction: Prediction, outcomes: Iterable[Outcome]) -> list[bool]:
        known = dict.fromkeys(prediction.items, NOTHING)
        for event in outcomes:
            inside = -self._before <= event.event_time - prediction.event_time <= self._after
            if inside and event.item_id in known:
                known[event.item_id] = self._rule.fold(known[event.item_id], event.kind, event.value)
        return [self._rule.positive(known[item]) for item in prediction.items]
