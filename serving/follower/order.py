"""Which delta fits on which model. Pure: a header and a position in, a verdict out.

The model's own graph checks the same once more; here it is decided what to send, what to pass over and where to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from feedback.deltas import DeltaHeader


@dataclass(frozen=True, order=True)
class Position:
    """Where a model is in its line."""

    epoch: int
    sequence: int


class Verdict(Enum):
    """What to do with a record of the deltas topic."""

    APPLY = "apply"
    """It follows on the model as it is."""
    CHECK = "check"
    """A checksum that holds exactly here."""
    PASS = "pass"
    """Applied already, of an epoch that is over, or a checksum for another moment."""
    HELD = "held"
    """It would fit, but deltas are held back."""
    GAP = "gap"
    """Something before it is missing: stop, and wait for a base that contains it."""
    NEWER = "newer"
    """It belongs to a higher epoch, which begins with a base of its own: stop, and wait for that."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What holds for the deltas of one loaded version."""

    floor: int = 0
    """Deltas with a lower epoch are not applied."""
    frozen: bool = False
    """No delta is applied at all: a canary that is a base of live's own line, or a base that stands in after a rollback."""
    until: int = 0
    """Deltas trained later than this wall clock (µs) are held back; 0: none."""
    limit: int | None = None
    """The last sequence to be applied for now (the label is about to move)."""


def judge(header: DeltaHeader, at: Position, rule: Rule) -> Verdict:
    """Decide what a record of the model's own line means for a model that stands `at` a position."""
    if header.epoch < at.epoch:
        return Verdict.PASS
    if header.kind == "checksum":
        return Verdict.CHECK if Position(header.epoch, header.sequence) == at else Verdict.PASS
    if header.epoch > at.epoch:
        return Verdict.NEWER
    if header.sequence <= at.sequence:
        return Verdict.PASS
    if header.previous > at.sequence:
        return Verdict.GAP
    if header.previous < at.sequence or header.epoch < rule.floor:
        # A delta that begins before the model and ends after it does not fit on it.
        return Verdict.PASS if header.epoch < rule.floor else Verdict.GAP
    return Verdict.HELD if holds(header, rule) else Verdict.APPLY


def holds(header: DeltaHeader, rule: Rule) -> bool:
    """Say whether the rule holds a delta back that would fit."""
    late = bool(rule.until) and header.trained_time > rule.until
    return rule.frozen or late or (rule.limit is not None and header.sequence > rule.limit)
