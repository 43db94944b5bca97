"""Freshness: from the moment an outcome was sent to the first answer of a model that has learned from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Served:
    """A prediction event: when it was answered, and by what at least."""

    sent_time: int
    """µs."""
    version: int
    epoch: int
    sequence: int


@dataclass
class Learned:
    """What left the trainer, as the deltas' headers say it."""

    epochs: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    sent_times: list[int] = field(default_factory=list)
    """One entry per outcome that a delta names, µs."""

    def add(self, *, epoch: int, sequence: int, sent_times: list[int]) -> None:
        """Add one delta."""
        self.epochs += [epoch] * len(sent_times)
        self.sequences += [sequence] * len(sent_times)
        self.sent_times += sent_times


def freshness_s(learned: Learned, served: list[Served]) -> Floats:
    """Seconds for each outcome that an answer knew of, in the order in which they were learned.

    An answer knows of an outcome when its model's (epoch, sequence) is at least that of the delta that learned from it.
    Outcomes that no answer knew of are left out.
    """
    if not served or not learned.sent_times:
        return np.empty(0)
    answers = sorted(served, key=lambda each: each.sent_time)
    times = np.array([each.sent_time for each in answers])
    reached = np.maximum.accumulate(_position([each.epoch for each in answers], [each.sequence for each in answers]))
    first = np.searchsorted(reached, _position(learned.epochs, learned.sequences), side="left")
    known = first < len(times)
    sent = np.array(learned.sent_times)
    return np.asarray((times[first[known]] - sent[known]) / 1e6)


def swaps(served: list[Served]) -> int:
    """How often, while answers were given, a version took over that had not answered before."""
    return max(0, len({each.version for each in served if each.version}) - 1)


def _position(epochs: list[int], sequences: list[int]) -> NDArray[np.int64]:
    """One number that orders pairs of epoch and sequence."""
    return np.array(epochs, dtype=np.int64) * (1 << 44) + np.array(sequences, dtype=np.int64)
