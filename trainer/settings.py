"""What the trainer learns and how. `everloop.toml` sections [trainer.model…] hold these; the loop's own groups stand beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from feedback.errors import ConfigError
from feedback.features import FeatureSpec
from feedback.settings import Count, NonNegative, Positive, Share, Whole
from trainer.groups import (
    CheckpointSettings,
    DeltaSettings,
    GateSettings,
    StepSettings,
    ValidationSettings,
    VersionSettings,
)

Kind = Literal["linear", "fm", "deepfm", "dcn"]


@dataclass(frozen=True, kw_only=True)
class FtrlSettings:
    """FTRL-proximal for the linear weights, per coordinate."""

    alpha: Positive = 0.2
    """Learning rate. Default 0.2."""
    beta: Positive = 1.0
    """Damps the first steps of a weight. Default 1."""
    l1: NonNegative = 0.0
    """L1 strength. Default 0."""
    l2: NonNegative = 0.0
    """L2 strength. Default 0."""


@dataclass(frozen=True, kw_only=True)
class AdagradSettings:
    """Adagrad for the embeddings."""

    rate: Positive = 0.1
    """Learning rate. Default 0.1."""
    rowwise: bool = True
    """One accumulator per row (mean of the squares) rather than one per coordinate. Default true."""
    start: Positive = 0.1
    """What an accumulator starts at. Default 0.1."""
    scale: NonNegative = 0.05
    """Standard deviation with which a feature's default row begins. Default 0.05."""


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """Adam for the dense part, on the gradient's mean over the step."""

    rate: Positive = 0.003
    """Learning rate. Default 0.003."""
    beta1: Share = 0.9
    """Decay of the mean. Default 0.9."""
    beta2: Share = 0.999
    """Decay of the mean square. Default 0.999."""
    epsilon: Positive = 1e-8
    """Added to the denominator. Default 1e-8."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """When a value gets a row of its own and when it loses it."""

    sightings: Count = 1
    """Sightings before a value gets a slot; a sighting is an impression. Default 1: at once."""
    unseen_s: NonNegative = 0.0
    """Event time without a sighting after which the slot is given back, s. Default 0: never."""


@dataclass(frozen=True, kw_only=True)
class SlotSettings:
    """Rows: how many, who gets one, when they come back."""

    capacity: Count = 65_536
    """Rows per table at the start; doubles when full. Default 65,536."""
    room: Positive = 1.0
    """Spare rows that an exported base has, as a share of the rows in use. Default 1 (twice)."""
    counts: Literal["sketch", "exact"] = "sketch"
    """How sightings are counted before admission: `sketch` (count-min, fixed memory, may admit early) or `exact`."""
    sketch_width: Count = 1_048_576
    """Cells in each of the sketch's 4 rows. Default 1,048,576 (4 MB)."""
    ageing_s: Positive = 86_400.0
    """Event time over which a sighting is remembered (at least; at most twice that), s. Default one day."""
    rest_s: NonNegative = 60.0
    """Event time that a slot rests between two keys, s. Default 60."""
    rest_sequences: Whole = 64
    """Deltas that must have been taken meanwhile: longer than any request. Default 64."""
    sweep_rows: Count = 8_192
    """Rows that each step looks at for expiry. Default 8,192."""
    every: Admission = Admission()
    """For features and crosses that `per` does not name."""
    per: dict[str, Admission] = field(default_factory=dict)
    """By feature, or cross as written in `crosses`."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The model: its shape, optimizers, losses and slots."""

    name: str = "news"
    """The model's name, as services ask for it."""
    kind: Kind = "deepfm"
    """`linear`; `fm` (linear + factorization machine); `deepfm` (fm + network); `dcn` (linear + cross network v2 + network)."""
    crosses: tuple[str, ...] = ()
    """Crosses of string features, `a*b` or `a*b*c`: linear weights (unless in `embed`)."""
    embed: tuple[str, ...] = ()
    """Features and crosses that have an embedding. Default: every string feature, no cross."""
    linear_only: tuple[str, ...] = ()
    """Features taken out of the default of `embed`."""
    dim: Count = 16
    """Numbers in an embedding. Default 16."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the network's layers (deepfm, dcn). Default 64, 32."""
    cross_layers: Count = 2
    """Layers of the cross network (dcn). Default 2."""
    heads: Whole = 0
    """Bootstrap heads for exploration: that many more scores. Default 0."""
    head_prior: NonNegative = 0.3
    """Standard deviation of a key's own random prior per head. Default 0.3."""
    head_rate: Positive = 0.1
    """Adagrad rate of the heads' weights. Default 0.1."""
    positions: Whole = 0
    """Positions with a bias of their own in training (further ones share the last; slates that something else chose have none). Default 0:
    none."""
    reference_position: Whole = 0
    """The position that serving assumes. Default 0, the top."""
    revision: Literal["reversal", "fnw"] = "reversal"
    """The loss of a revision: see docs/model.md."""
    ftrl: FtrlSettings = FtrlSettings()
    """Of the linear weights."""
    adagrad: AdagradSettings = AdagradSettings()
    """Of the embeddings."""
    adam: AdamSettings = AdamSettings()
    """Of the dense part."""
    slots: SlotSettings = SlotSettings()
    """Rows and keys."""
    seed: Whole = 1
    """Of the initial weights. Default 1."""
    threads: Whole = 2
    """Threads of one operation in training; 0: one per core. Default 2."""

    def check(self, features: FeatureSpec) -> None:
        """Raise ConfigError where a name is unknown or fields contradict each other."""
        strings = {f.name for f in features.features if f.kind != "number"}
        for cross in self.crosses:
            parts = cross.split("*")
            if len(parts) < 2 or len(set(parts)) != len(parts) or not set(parts) <= strings:
                raise ConfigError(
                    key="trainer.model.crosses", value=cross, allowed=f"a*b of different features of {sorted(strings)}"
                )
        fields = strings | set(self.crosses)
        for key, names in (
            ("embed", self.embed),
            ("linear_only", self.linear_only),
            ("slots.per", tuple(self.slots.per)),
        ):
            for name in names:
                if name not in fields:
                    raise ConfigError(key=f"trainer.model.{key}", value=name, allowed=f"one of {sorted(fields)}")
        if self.kind == "deepfm" and not self.hidden:
            raise ConfigError(key="trainer.model.hidden", value=self.hidden, allowed="a layer at least (or kind = fm)")
        if not strings:
            raise ConfigError(key="features", value=features.names(), allowed="one of kind string or strings at least")
        if self.kind != "linear" and not (set(self.embed) or strings) - set(self.linear_only):
            raise ConfigError(key="trainer.model.embed", value=self.embed, allowed="one at least (or kind = linear)")
        if self.positions and self.reference_position >= self.positions:
            raise ConfigError(
                key="trainer.model.reference_position", value=self.reference_position, allowed="below positions"
            )


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where checkpoints and versions go beside the data folder, so that a trainer on another machine, and followers, find them."""

    uri: str = ""
    """A folder of a share or an object store (fsspec), e.g. `s3://bucket/everloop`. Default: none, the data folder is all there is."""
    storage: dict[str, str] = field(default_factory=dict)
    """Options for that store (fsspec), e.g. an endpoint; credentials belong into the environment. Default: none."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Everything under [trainer]."""

    model: ModelSettings = ModelSettings()
    """The model."""
    steps: StepSettings = StepSettings()
    """Where a step ends."""
    deltas: DeltaSettings = DeltaSettings()
    """When what was learned leaves."""
    versions: VersionSettings = VersionSettings()
    """When a base is exported, and how many are kept."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """How often the state is saved."""
    store: StoreSettings = StoreSettings()
    """Where others find checkpoints and versions."""
    validation: ValidationSettings = ValidationSettings()
    """Progressive validation."""
    gate: GateSettings = GateSettings()
    """What may leave the trainer."""
