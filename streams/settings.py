"""The settings of the streams part: what counts as a label, how long the join waits, what it may hold, how the worker runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from feedback.errors import ConfigError
from feedback.settings import Count, NonNegative, Positive

Kind = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""A kind of outcome."""


@dataclass(frozen=True, kw_only=True)
class JoinSettings:
    """Event time: how long the join waits for what. All of it in the events' own time, whatever the replay's speed."""

    window_s: Positive = 1800.0
    """Attribution window: an outcome counts up to this long after its prediction. Default 1800 s."""
    lateness_s: NonNegative = 10.0
    """How far events may come out of order within a partition before the watermark has passed them. Default 10 s."""
    hold_s: NonNegative = 0.0
    """How long after its impression a negative goes out; 0: at once; `window_s`: when all is known. Default 0 s."""
    positives: Literal["at_once", "at_close"] = "at_once"
    """When a positive goes out: as soon as the label turns, or with the slate's negatives. Default at_once."""
    skew_s: NonNegative = 5.0
    """How far an outcome's clock may lie before its prediction's: an earlier outcome is refused. Default 5 s."""
    early_wait_s: NonNegative = 600.0
    """How long an outcome waits for its prediction before it is an orphan. Default 600 s."""
    remember_s: NonNegative = 600.0
    """How long a settled slate is kept for late revisions, and to know a repeated prediction by. Default 600 s."""
    future_s: NonNegative = 60.0
    """An event further ahead than this of the time Kafka received it is refused. Default 60 s."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.hold_s > self.window_s:
            raise ConfigError(
                key="streams.join.hold_s", value=self.hold_s, allowed=f"at most window_s, {self.window_s:g}"
            )


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """The rule that reduces what a reader did with an item to one label and one weight."""

    positive: Kind = "click"
    """The kind of outcome that makes a positive. Default click."""
    min_dwell_s: NonNegative = 0.0
    """A positive also needs an outcome of kind `dwell` of at least this; 0: none is needed. Default 0 s."""
    dwell: Kind = "dwell"
    """The kind whose value is seconds of reading; the longest of an item counts. Default dwell."""
    view: Kind = "view"
    """The kind that says that an item was seen. Any other outcome of the item says so too. Default view."""
    negatives: Literal["served", "viewed"] = "served"
    """Which impressions are taught as negatives: all that were served, or only those seen. Default served."""
    weight: Literal["one", "dwell", "value"] = "one"
    """Weight of a positive: 1, its dwell seconds or the positive outcome's value, over `weight_unit`. Default one."""
    weight_unit: Positive = 1.0
    """The dwell or value that weighs 1. Default 1."""
    max_weight: Positive = 10.0
    """No positive weighs more. Default 10."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.weight == "dwell" and not self.min_dwell_s:
            allowed = "with weight = dwell above 0: else the label turns before the dwell is known"
            raise ConfigError(key="streams.labels.min_dwell_s", value=self.min_dwell_s, allowed=allowed)


@dataclass(frozen=True, kw_only=True)
class BoundSettings:
    """What the join of one partition may hold."""

    slates_in_memory: Count = 100_000
    """Slates kept in memory; the older ones beyond it lie on disk. About 1.6 KB each (20 positions). Default 100,000."""
    unwritten: Count = 20_000
    """The newest slates, not on disk yet: after a kill they are read again from the inputs. Default 20,000."""
    slates: Count = 4_000_000
    """Slates kept at all: beyond it the oldest are closed early and counted as shed. Default 4,000,000."""
    waiting: Count = 100_000
    """Outcomes that wait for their prediction: beyond it the oldest are orphans. Default 100,000."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.slates_in_memory > self.slates:
            allowed = f"at most streams.bounds.slates, {self.slates}"
            raise ConfigError(key="streams.bounds.slates_in_memory", value=self.slates_in_memory, allowed=allowed)
        if self.unwritten > self.slates_in_memory:
            allowed = f"at most streams.bounds.slates_in_memory, {self.slates_in_memory}"
            raise ConfigError(key="streams.bounds.unwritten", value=self.unwritten, allowed=allowed)


@dataclass(frozen=True, kw_only=True)
class StateSettings:
    """Real-time features in Redis."""

    enabled: bool = True
    """Whether the worker keeps them. Default true."""
    half_life_s: Positive = 3600.0
    """Half-life of the decayed counts, in event time. Default 3600 s."""
    last_items: Count = 20
    """How many of a reader's last items are kept per partition. Default 20."""
    expire_s: Count = 7 * 86_400
    """A key that nobody writes for this long is gone, wall time. Default 7 days."""
    pool: Count = 2_000
    """Items in the pool of fresh and in that of popular ones. Default 2,000."""
    flush_s: Positive = 0.2
    """How often changes are written, wall time. Default 0.2 s."""
    cached: Count = 200_000
    """Items and readers whose counts are kept in memory besides; the others are read back. Default 200,000."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How the join's service runs in the worker. Wall time."""

    pause_s: NonNegative = 0.02
    """Pause between rounds: a transaction right after another waits for the broker to finish that one. Default 0.02 s."""
    max_records: Count = 16_000
    """Records taken in one round over all partitions. Default 16,000."""
    ahead_s: Positive = 10.0
    """While it catches up, one topic is read at most this far ahead of the other (Kafka's time). Default 10 s."""
    session_s: Positive = 6.0
    """A worker that is silent for so long loses its partitions. Default 6 s, the least a broker allows by default."""
    transaction_timeout_s: Positive = 15.0
    """The broker ends a transaction that is open for so long. Default 15 s."""


@dataclass(frozen=True, kw_only=True)
class StreamsSettings:
    """All settings of the streams part."""

    join: JoinSettings = field(default_factory=JoinSettings)
    """Event time."""
    labels: LabelSettings = field(default_factory=LabelSettings)
    """Labels and weights."""
    bounds: BoundSettings = field(default_factory=BoundSettings)
    """Bounds of the state."""
    state: StateSettings = field(default_factory=StateSettings)
    """Real-time features."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    """The service."""
