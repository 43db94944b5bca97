"""The settings of the trainer's loop, by group. `trainer.settings.TrainerSettings` composes them with the model's."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.errors import ConfigError
from feedback.settings import Count, NonNegative, Positive, PositiveShare, Share, Whole


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Where a step ends. A step is what is learned at once: small for learning, short for latency."""

    examples: Count = 500
    """Examples in a step at most (one sample that has more is a step of its own). Default 500."""
    wait_s: NonNegative = 0.03
    """Wall time that the first sample of a step waits for others, s. Default 0.03."""
    idle_s: Positive = 1.0
    """Wall time after which progress records are taken without any sample, s. Default 1."""
    buffer_examples: Count = 50_000
    """Decoded examples that wait in memory at most. Default 50,000."""


@dataclass(frozen=True, kw_only=True)
class DeltaSettings:
    """When what was learned leaves, and in what pieces."""

    every_s: NonNegative = 0.05
    """Wall time between two deltas, at least, s. Default 0.05."""
    every_steps: Whole = 0
    """Steps in a delta at most; 0: as many as `every_s` allows. Default 0."""
    part_bytes: Count = 900_000
    """Bytes of one record at most; stay below the broker's message.max.bytes. Default 900,000."""
    checksum_every: Count = 200
    """Deltas between two checksums. Default 200."""
    window: Count = 4
    """Deltas that may be on their way to the broker at once before training waits. Default 4."""


@dataclass(frozen=True, kw_only=True)
class VersionSettings:
    """When a base is exported and how many are kept."""

    every_s: Positive = 300.0
    """Wall time between two exported versions, s; more where `share` asks for it. Default 300."""
    share: PositiveShare = 0.1
    """Share of one processor's time that versions and checkpoints may take: what took long, as a large table's does, is followed by a
    longer rest. Default 0.1."""
    keep: Count = 3
    """Newest versions kept, beside those that are live, pinned, a canary, or loaded by a replica. Default 3."""
    warmup_rows: Whole = 64
    """Examples in a version's warm-up requests. Default 64."""
    replica_s: Positive = 3600.0
    """A replica that has said nothing for so long holds no version any more, s. Default 3600."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often the state is saved, and how many are kept."""

    every_s: Positive = 30.0
    """Wall time between two checkpoints, s; more where `trainer.versions.share` asks for it. Default 30."""
    keep: Count = 3
    """Newest checkpoints kept, beside those that kept versions can be rebuilt from. Default 3."""


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """Progressive validation."""

    window_s: Positive = 3600.0
    """Length of the sliding window, in event time, s. Default 3600."""
    share: Share = 1.0
    """Share of the slates, by hash of the request id, that is validated: lower it where memory asks for it. Default 1."""
    half_life_s: NonNegative = 0.0
    """Half-life of the baseline's counts, in event time, s; 0: never forgets. Default 0."""
    prior: Positive = 20.0
    """Impressions of the overall click rate that an item's rate begins with. Default 20."""
    items: Count = 1_000_000
    """Items that the baseline remembers; beyond, those longest unseen are forgotten. Default 1,000,000."""
    users: Count = 1_000_000
    """Readers remembered as known: between one and two times as many. Default 1,000,000."""
    rows: Count = 20_000_000
    """Settled rows kept on disk for the report, at least (42 bytes each). Default 20,000,000."""


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """What may leave the trainer. Thresholds follow from `false_alarm_days`, wherever the check is statistical."""

    enabled: bool = True
    """Whether refusals stop anything; finite scores are checked all the same. Default true."""
    false_alarm_days: Positive = 30.0
    """One false alarm in so many days of event time, per check. Default 30."""
    margin: NonNegative = 0.01
    """How much worse than the baseline the model may be, in log loss per impression. Default 0.01."""
    clip: Positive = 1.0
    """A slate's difference in log loss counts for so much at most, either way. Default 1."""
    reference: Count = 4_000
    """Settled slates from which normal is learned. Default 4,000."""
    arm: Count = 500
    """Settled slates before the statistical checks begin. Default 500."""
    probation: Whole = 100
    """Slates that must settle, without suspicion, between a version's export and its leave to go live; 0: none. Once the
    checks have begun. Default 100."""
    calibration_low: Positive = 0.5
    """Predicted / observed clicks below which the model is refused, if it is no accident. Default 0.5."""
    calibration_high: Positive = 2.0
    """The same above. Default 2."""
    calibration_slates: Count = 400
    """Settled slates that calibration is taken over. Default 400."""
    probe_rows: Count = 256
    """Rows of the fixed probe set. Default 256."""
    probe_logits: Positive = 3.0
    """Mean absolute change of the probe set's logits between two looks that is refused: a bound, not a statistic. Default 3."""
    probe_steps: Count = 100
    """Steps between two looks at the probe set. Default 100."""
    rate_factor: Positive = 3.0
    """A click rate that moved by this factor, up or down, is looked for. Default 3."""
    rate_examples: Count = 100
    """Impressions in one look from which the normal click rate is learned. Default 100."""
    share_slates: Count = 200
    """Slates in which one reader's or item's share is watched. Default 200."""
    user_share: Share = 0.03
    """Share of one reader that is normal anyway. Default 0.03."""
    item_share: Share = 0.3
    """Share of the clicks of one item that is normal anyway. Default 0.3."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.calibration_low >= self.calibration_high:
            raise ConfigError(
                key="trainer.gate.calibration_low", value=self.calibration_low, allowed="below calibration_high"
            )
        if self.rate_factor <= 1:
            raise ConfigError(key="trainer.gate.rate_factor", value=self.rate_factor, allowed="above 1")
