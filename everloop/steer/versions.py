"""What is known of each version, as one table: where it stands in its life, and on which replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from feedback.versions import Control, ModelEvent, Replica
from serving.follower.plan import Known
from serving.follower.records import fold


class Row(Struct, frozen=True, kw_only=True):
    """One version."""

    version: int
    line: str
    epoch: int
    sequence: int
    """That it contains as exported."""
    exported: int
    """Wall clock, µs; 0: unknown."""
    state: str
    """live, canary, loaded, ready (passed the gate), exported (did not yet), refused, dropped, removed."""
    pinned: bool
    replicas: dict[str, int]
    """By replica that has it loaded, the sequence it has reached there."""
    reason: str
    """Why it was refused, dropped or rolled back to, if it was."""
    uri: str


def rows(events: Iterable[ModelEvent], control: Control, replicas: Sequence[Replica]) -> list[Row]:
    """The versions, newest first."""
    events = list(events)
    known = fold(events)
    by_version: dict[int, list[ModelEvent]] = {}
    for event in events:
        by_version.setdefault(event.version, []).append(event)
    return [_row(known[version], by_version[version], control, replicas) for version in sorted(known, reverse=True)]


def _row(known: Known, events: Sequence[ModelEvent], control: Control, replicas: Sequence[Replica]) -> Row:
    version = known.version
    notable = [e for e in events if e.reason and e.event in ("refused", "dropped", "rolled_back", "promoted", "gated")]
    newest = max(notable, key=lambda event: event.time, default=None)
    return Row(
        version=version,
        line=known.line,
        epoch=known.epoch,
        sequence=known.sequence,
        exported=min((event.time for event in events if event.event == "exported"), default=0),
        state=_state(known, events, control, replicas),
        pinned=control.pinned and control.version == version,
        replicas={r.replica: r.loaded[version] for r in replicas if version in r.loaded},
        reason=newest.reason if newest else "",
        uri=known.uri,
    )


def _state(known: Known, events: Sequence[ModelEvent], control: Control, replicas: Sequence[Replica]) -> str:
    if any(replica.live == known.version for replica in replicas):
        return "live"
    if control.canary and control.canary.version == known.version:
        return "canary"
    if any(known.version in replica.loaded for replica in replicas):
        return "loaded"
    happened = {event.event for event in events}
    for word in ("removed", "dropped", "refused"):
        if word in happened:
            return word
    return "ready" if known.passed else "exported"
