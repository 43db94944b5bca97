"""What flows round the loop: prediction, outcome, tick; and, from the join, sample and progress.

A slate is columnar: one array per feature with one entry per position, so that the cost per event is paid once per
request and 20 positions fit in about 1 KB of JSON. Every event carries `type` (its tag) and `v` (the schema version).
Unknown fields are tolerated, so that a newer producer can speak to an older reader; missing or wrong ones are refused.
Times are integer microseconds since the epoch (see `feedback.clock`).
"""

from __future__ import annotations

from typing import Annotated, Final, NewType

from msgspec import Meta, Struct, field

SCHEMA_VERSION = 1
"""The schema version that this code writes, and the highest that it reads."""

RequestId = NewType("RequestId", str)
"""Names one slate; the key of predictions, outcomes and samples. Chosen by the gateway (in a replay by the replayer; for a slate that
something else chose, by its producer if it likes)."""

ItemId = NewType("ItemId", str)
"""Names one thing that can be recommended."""

UserId = NewType("UserId", str)
"""Names one reader; the producer decides how pseudonymous it is."""

EventId = NewType("EventId", str)
"""Names one outcome: the same event sent twice carries the same id and is counted once."""

MAX_SLATE = 1_000
"""Positions in a slate at most: a prediction with more is refused."""

OBSERVED: Final = "observed"
"""The policy (and the fallback) of a slate that something else chose: the front page that editors made, a search result, a newsletter.
It teaches the model like any other, and says nothing of the ranking policy or of what a model served: it has no score, no propensity,
and its positions are another page's."""

MAX_SENT_TIMES = 64
"""How many `sent_time`s a sample or delta carries at most, for freshness."""

NEGATIVE, POSITIVE, REVISION = 0, 1, 2
"""What an emission of an example is. NEGATIVE: label 0, first seen. POSITIVE: label 1, first seen. REVISION: label 1 for an
impression whose negative went out before. The label is `emission > 0`."""

Value = str | float | list[str]
"""One feature value: a string, a number, or several strings (multi-valued)."""

Version = Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)]
Micros = Annotated[int, Meta(ge=0, le=253_402_300_800_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Kind = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Unshown(Struct, kw_only=True, frozen=True, gc=False):
    """Candidates that were scored but not shown: for off-policy evaluation, never for training."""

    items: list[Name]
    """Item ids, any order."""
    scores: list[float]
    """The model's score of each, same length."""


class Prediction(Struct, kw_only=True, tag_field="type", tag="prediction", frozen=True):
    """A slate as it was shown. Written by the gateway: once per answered request (in a replay, on behalf of the replayer), and for
    each slate that a producer says something else showed."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    request_id: Name
    """Names the slate; the Kafka key."""
    user_id: Name
    """The reader."""
    event_time: Micros
    """When the slate was answered (in a replay: the log's time), µs. Drives windows."""
    sent_time: Micros
    """Wall clock of the gateway when it wrote this event, µs."""
    items: Annotated[list[Name], Meta(min_length=1, max_length=MAX_SLATE)]
    """Item ids in the order shown; position = index. No item twice."""
    scores: list[float]
    """The model's click probability of each position, as served; 0 where no model was asked."""
    propensities: list[float] = field(default_factory=list)
    """Natural log of the probability of each prefix of the slate under the whole policy; empty when the policy logs none."""
    context: dict[str, Value] = field(default_factory=dict)
    """Features with one value for the whole slate, as used at serving time."""
    features: dict[str, list[Value]] = field(default_factory=dict)
    """Features with one value per position, as used at serving time; each array as long as `items`."""
    unshown: Unshown | None = None
    """Candidates that were considered but not shown."""
    policy: str = ""
    """The ranking policy that chose the order, with its parameters, e.g. `epsilon_greedy(0.1)`; `observed`: something else chose the
    slate."""
    model: str = ""
    """The model's name."""
    version: int = 0
    """The servable version that scored; 0 when the answer is a fallback, or something else chose the slate."""
    epoch: int = 0
    """The epoch of the model line at that moment."""
    sequence: int = 0
    """The model had learned from at least the deltas up to this sequence."""
    fallback: str = ""
    """Why the model's scores were not used (e.g. `model_unavailable`; `observed`: something else chose the slate); empty when they
    were."""


class Outcome(Struct, kw_only=True, tag_field="type", tag="outcome", frozen=True, gc=False):
    """What a reader did with one item of a slate. Written by event producers."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    event_id: Name
    """Names this outcome; a repeat with the same id is ignored."""
    request_id: Name
    """The slate it belongs to; the Kafka key."""
    item_id: Name
    """The item of that slate."""
    kind: Kind
    """What happened: `view`, `click`, `dwell`, `conversion`, or a word of your own: the label rule names the ones it uses."""
    value: float = 1.0
    """Its size: seconds for `dwell`, money for `conversion`, 1 for what merely happened."""
    event_time: Micros
    """When it happened, µs."""
    sent_time: Micros
    """Wall clock of the producer when it sent this event, µs. Freshness is measured from it."""


class Tick(Struct, kw_only=True, tag_field="type", tag="tick", frozen=True, gc=False):
    """Says that event time has come this far, in a partition where nothing may happen. Written each second to every partition
    of predictions and outcomes, by the gateway (in a replay, by the replayer)."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    event_time: Micros
    """Event time reached, µs."""
    sent_time: Micros
    """Wall clock of the writer, µs."""
    source: str = ""
    """Who wrote it."""


class Sample(Struct, kw_only=True, tag_field="type", tag="sample", frozen=True):
    """Labelled examples of one slate that the join let go together. Written by the join, inside a transaction."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    sample_id: Name
    """A pure function of the inputs: two runs over the same log give the same ids."""
    request_id: Name
    """The slate; the Kafka key."""
    user_id: Name
    """The reader."""
    event_time: Micros
    """The prediction's event time, µs."""
    settle_time: Micros
    """Event time at which the slate settles: once the partition's watermark has passed it the labels are final, µs."""
    label_policy: str
    """Name of the label rule in force, with its parameters."""
    emissions: list[int]
    """One of NEGATIVE, POSITIVE, REVISION per example."""
    positions: list[int]
    """Position in the slate, per example, 0-based."""
    items: list[str]
    """Item id, per example."""
    weights: list[float] = field(default_factory=list)
    """Sample weight per example; empty: all 1."""
    scores: list[float] = field(default_factory=list)
    """The score in the prediction event, per example (for `auc_served`)."""
    propensities: list[float] = field(default_factory=list)
    """The prefix log-propensity in the prediction event, per example; may be empty."""
    context: dict[str, Value] = field(default_factory=dict)
    """The slate's features, as used at serving time."""
    features: dict[str, list[Value]] = field(default_factory=dict)
    """The examples' features, one array per feature, one entry per example."""
    policy: str = ""
    """The ranking policy; `observed`: something else chose the slate."""
    version: int = 0
    """The servable version that scored."""
    sequence: int = 0
    """The sequence the serving model had reached at least."""
    fallback: str = ""
    """Why the model's scores were not used."""
    sent_times: list[int] = field(default_factory=list)
    """`sent_time` of the outcomes that made these labels, at most MAX_SENT_TIMES, µs."""


class Ledger(Struct, kw_only=True, gc=False):
    """Where every impression and every refused event went, in one partition since the beginning (counts never reset)."""

    slates: int = 0
    """Slates opened."""
    impressions: int = 0
    """Positions of those slates."""
    open: int = 0
    """Impressions whose slate has not settled."""
    settled_negative: int = 0
    """Impressions settled with label 0."""
    settled_positive: int = 0
    """Impressions settled with label 1 (a revision after settling moves one here)."""
    shed: int = 0
    """Impressions closed early because the state's hard bound was reached."""
    unviewed: int = 0
    """Impressions that settled as not viewed under a rule that learns only from what was viewed; a share of settled_negative."""
    negatives: int = 0
    """NEGATIVE examples emitted."""
    positives: int = 0
    """POSITIVE examples emitted."""
    revisions: int = 0
    """REVISION examples emitted."""
    late: int = 0
    """Outcomes that came after their slate had settled."""
    late_revisions: int = 0
    """Those of `late` that were still taught as a revision."""
    duplicate_predictions: int = 0
    """Predictions whose request_id was already open or settled and still remembered."""
    duplicate_outcomes: int = 0
    """Outcomes whose event_id had been seen."""
    orphan: int = 0
    """Outcomes whose prediction never came within the time they wait."""
    refused: int = 0
    """Well-formed events that break a rule (item not on the slate, clock in the future, …): dead letters."""
    malformed: int = 0
    """Bytes that are no event: dead letters."""
    expected_emissions: int = 0
    """What the label rule says has to have been emitted by now, counted apart from the emissions themselves."""

    @property
    def residual(self) -> int:
        """Impressions that are in no column, or in two: 0 unless the join is wrong."""
        return self.impressions - self.open - self.settled_negative - self.settled_positive - self.shed

    @property
    def sample_residual(self) -> int:
        """Emissions beyond what the label rule says they must be: 0 unless the join is wrong."""
        return self.negatives + self.positives + self.revisions - self.expected_emissions

    def add(self, other: Ledger) -> None:
        """Add another partition's counts to this one's."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Progress(Struct, kw_only=True, tag_field="type", tag="progress", frozen=True):
    """How far the join of one partition has come. The last record of each transaction of the join on that partition."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    partition: int
    """The partition of predictions, outcomes and samples."""
    watermark: int
    """Event time up to which the inputs are complete, µs; 0 before both topics have said something."""
    predictions_offset: int
    """The next offset to be read of the predictions topic."""
    outcomes_offset: int
    """The next offset to be read of the outcomes topic."""
    ledger: Ledger
    """The partition's ledger at this commit."""
    sent_time: int
    """Wall clock of the join worker at this commit, µs (never used by any rule)."""


class DeadLetter(Struct, kw_only=True, tag_field="type", tag="deadletter", frozen=True, gc=False):
    """An input record that was refused, byte for byte, with where it stood and why."""

    v: Version = SCHEMA_VERSION
    """Schema version."""
    topic: str
    """The topic that it was read from."""
    partition: int
    """Its partition."""
    offset: int
    """Its offset."""
    reason: str
    """A stable word, e.g. `malformed`, `item_not_on_slate`, `future_event_time`."""
    detail: str
    """A sentence that names the field, its value and what is allowed."""
    time: int
    """When it was refused, wall clock, µs."""
    key: bytes | None = None
    """The record's key (base64 in JSON)."""
    value: bytes | None = None
    """The record's value (base64 in JSON)."""


Input = Prediction | Outcome | Tick
"""What may stand in the predictions and outcomes topics."""

Output = Sample | Progress
"""What may stand in the samples topic."""
