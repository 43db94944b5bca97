"""One slate as the join holds it, and an outcome that waits for one.

Positions are bits of an integer: a slate's labels are four small numbers, whatever its length. The prediction itself stays the
bytes that it came in; it is decoded again for the few slates that something happens to.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from feedback.events import Outcome
from streams.labels import Evidence

HELD, OUT, SETTLED, SHED = 0, 1, 2, 3
"""Stages of a slate: its negatives wait for `hold_s`; they are out; its labels are final; it was closed early."""


class Slate(Struct, gc=False, array_like=True):
    """An open, settled or shed slate. About 450 bytes, and the prediction's."""

    request_id: str
    raw: bytes
    """The prediction as it was read; empty once shed."""
    offset: int
    """Where in the predictions topic."""
    size: int
    """Positions."""
    time: int
    """The prediction's event time, µs."""
    clock: int
    """The predictions' clock less the lateness when it opened: an outcome that had stopped waiting by then is an orphan, µs."""
    due: int
    """When its next stage comes, µs."""
    release: int
    """When its negatives go out, µs."""
    settle: int
    """When it settles, µs."""
    rules: int = 0
    """Number of the rules that it was opened under."""
    stage: int = HELD
    positive: int = 0
    """Positions whose label is 1."""
    first: int = 0
    """Positions whose label was 1 when the slate went out: they have no negative."""
    viewed: int = 0
    """Positions that something happened to (kept where only what was viewed is a negative)."""
    outcomes: Outcomes | None = None
    """What happened; None: nothing yet."""
    disk_due: int = -1
    """`due` as the store's disk has it; -1: it is not on disk."""
    disk_open: int = 0
    """Positions that the store counts as open on disk."""

    @property
    def everyone(self) -> int:
        """All positions."""
        return (1 << self.size) - 1


class Outcomes(Struct, gc=False, array_like=True):
    """What is known of a slate that something happened to."""

    items: list[str]
    """The items, in the order shown."""
    seen: set[str] = field(default_factory=set)
    """Ids of the outcomes counted."""
    evidence: dict[int, Evidence] = field(default_factory=dict)
    """Per position."""
    after: list[Outcome] = field(default_factory=list)
    """What came after the negatives by its time, read before they went out."""
    sent_times: list[int] = field(default_factory=list)
    """Of the outcomes that turned a label before the slate went out, where positives wait for that, µs."""


class Waiting(Struct, gc=False):
    """An outcome whose prediction has not come."""

    request_id: str
    record: Any
    """The record it came in."""
    event: Any
    """The outcome."""
    clock: int
    """The outcomes' clock less nothing, before it, µs."""
    due: int
    """When it stops waiting, µs."""
    gone: bool = False
    """Its prediction came, or it was let go: the timer means nothing."""


def emitted(slate: Slate, *, viewed_only: bool, at_once: bool) -> int:
    """How many examples the label rule says must be out for a slate in its present state.

    This is the other side of `sample_residual`: it looks at labels, not at what was written.
    """
    if slate.stage == HELD:
        return slate.positive.bit_count() if at_once else 0
    taught = (slate.viewed | slate.positive) if viewed_only else slate.everyone
    return taught.bit_count() + (slate.positive & ~slate.first).bit_count()
