"""What clients send and get, as JSON. The OpenAPI document is made of these types and their docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from feedback.events import MAX_SLATE, Kind, Micros, Name, Value


class Candidate(Struct, frozen=True, kw_only=True, gc=False):
    """An item that may be shown, or that something else showed."""

    id: Name
    """The item's id."""
    features: dict[str, Value] = field(default_factory=dict)
    """Its features of source `candidate`; a missing one has its default."""


class RecommendRequest(Struct, frozen=True, kw_only=True):
    """Ask for a ranked slate."""

    user: Name
    """The reader."""
    context: dict[str, Value] = field(default_factory=dict)
    """Features of the request, of source `context`."""
    candidates: list[Candidate] | None = None
    """What to rank; none: the pool of fresh and popular items."""
    count: Annotated[int, Meta(ge=1)] | None = None
    """Positions wanted; a default is configured. Fewer come when there are fewer candidates."""
    event_time: Micros | None = None
    """Needs scope replay: the time of the request, µs since the epoch, in place of now."""
    request_id: Name | None = None
    """Needs scope replay: the slate's name, in place of a new one."""


class Item(Struct, frozen=True, kw_only=True, gc=False):
    """One position of the slate."""

    id: str
    """The item's id."""
    position: int
    """0-based."""
    score: float
    """The model's click probability; in a fallback what the items were ranked by."""
    propensity: float
    """Probability that the policy shows exactly this prefix of the slate, up to and with this position."""


class ModelAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """Which model scored."""

    name: str
    """The model's name."""
    version: int
    """Its version; 0 in a fallback."""
    sequence: int
    """It had learned from at least the deltas up to this sequence."""
    epoch: int
    """The epoch of its line."""


class RecommendResponse(Struct, frozen=True, kw_only=True):
    """A ranked slate."""

    request_id: str
    """Names the slate; outcomes refer to it."""
    items: list[Item]
    """The slate, first position first."""
    model: ModelAnswer
    """Which model scored."""
    policy: str
    """The policy that chose the order."""
    fallback: str
    """Why the scores are not the model's (`model_unavailable`, `model_timeout`, `model_error`); empty: they are."""
    degraded: list[str]
    """What else was away: `features_unavailable` (defaults stood in)."""
    logged: bool
    """Whether the slate is in the log that the loop learns from; false when the spool is full."""


class ObserveRequest(Struct, frozen=True, kw_only=True):
    """Tell of a slate that something else chose and showed."""

    user: Name
    """The reader."""
    items: Annotated[list[Candidate], Meta(min_length=1, max_length=MAX_SLATE)]
    """What was shown, first position first; no item twice."""
    context: dict[str, Value] = field(default_factory=dict)
    """Features of the request, of source `context`."""
    event_time: Micros | None = None
    """When it was shown, µs since the epoch; default: now."""
    request_id: Name | None = None
    """The slate's name, to which outcomes refer; default: a new one. Of two slates with one name the first counts."""


class ObserveResponse(Struct, frozen=True, kw_only=True):
    """A slate that was taken."""

    request_id: str
    """Names the slate; outcomes refer to it."""
    logged: bool
    """Whether the slate is in the log that the loop learns from: true, for a full spool is answered with 503."""
    degraded: list[str]
    """What was away: `features_unavailable` (defaults stand in the log)."""


class OutcomeIn(Struct, frozen=True, kw_only=True, gc=False):
    """What a reader did with one item of a slate."""

    request_id: Name
    """The slate."""
    item_id: Name
    """The item."""
    kind: Kind
    """What happened: click, dwell, conversion, …"""
    value: float = 1.0
    """Its size: seconds for dwell, money for conversion."""
    event_id: Name | None = None
    """Names this outcome, so that a repeat is counted once; without one, a repeat counts twice."""
    event_time: Micros | None = None
    """When it happened, µs since the epoch; default: now."""
    sent_time: Micros | None = None
    """When its producer sent it, µs since the epoch; default: now."""


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one outcome."""

    index: int
    """Its place in the request."""
    accepted: bool
    """Whether it was taken."""
    event_id: str = ""
    """Its id, the one made for it if it had none."""
    field: str = ""
    """The field that is wrong."""
    detail: str = ""
    """What is wrong, and what is allowed."""


class OutcomesResponse(Struct, frozen=True, kw_only=True):
    """What became of the outcomes."""

    accepted: int
    """How many were taken: they are in Kafka or in the spool."""
    refused: int
    """How many were not."""
    verdicts: list[Verdict]
    """One for each, in order."""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, as RFC 9457 has it (application/problem+json)."""

    type: str
    """A URI that names the kind of problem."""
    title: str
    """The kind in words."""
    status: int
    """The HTTP status."""
    detail: str = ""
    """This occurrence in words: the thing, its value, what is allowed."""
    field: str = ""
    """The field of the request that is wrong."""
    verdicts: list[Verdict] = msgspec.field(default_factory=list)
    """With outcomes of which none could be taken: one for each."""


class Status(Struct, frozen=True, kw_only=True):
    """The gateway and what it sees of the loop."""

    model: str
    """The model's name."""
    version: int
    """The version that scored last."""
    sequence: int
    """The sequence of the last answer."""
    epoch: int
    """The epoch of its line."""
    freshness: dict[str, float]
    """Of the last outcomes: `p50_s`, `p99_s` from sent to the first answer that knows them, and `count`."""
    requests: int
    """Recommend requests answered since the start."""
    fallbacks: int
    """Those of them answered without the model."""
    spool: dict[str, float]
    """`waiting_bytes`, of at most `max_bytes`, `waiting_s` (since Kafka last confirmed), `full` (1 or 0), `sent` and `unlogged` records."""
    breakers: Mapping[str, str]
    """`closed`, `open` or `half_open`, per part."""
    control: dict[str, Any]
    """What the control topic says shall be live."""
