"""The losses that are compared, as dL/dlogit per example: the trainer's own (a test compares them with `trainer/losses.py`) and two
published delay models."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from everloop.experiments.ftrl import Floats
from feedback.events import NEGATIVE, POSITIVE, REVISION

Kinds = NDArray[np.int8]

CLIP: Final = np.float32(0.5)


class Loss(Protocol):
    """Says what a step teaches."""

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """dL/dlogit per example. `p`: what the model says; `delays`: seconds to the click, for those that were clicked."""


class Plain:
    """Log loss, for a revision too: its impression is taught twice, once with either label."""

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """p − y."""
        found: Floats = p - (kinds != NEGATIVE)
        return found.astype(np.float32)


class Reversal:
    """Log loss; a revision takes the earlier negative back and teaches the positive.

    Source: Ktena et al., RecSys 2019 ("positive-unlabelled" there).
    """

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """p − y, and −1 for a revision."""
        return np.where(kinds == REVISION, np.float32(-1), p - (kinds != NEGATIVE)).astype(np.float32)


class FakeNegative:
    """Fake-negative weighting, clipped as in the trainer. Source: Ktena et al., RecSys 2019."""

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """Negatives weigh (1 − c)(1 + c), revisions 1 + c, where c = min(p, 0.5)."""
        c = np.minimum(p, CLIP)
        weight = np.where(kinds == NEGATIVE, (1 - c) * (1 + c), np.where(kinds == REVISION, 1 + c, 1))
        found: Floats = (weight * (p - (kinds != NEGATIVE))).astype(np.float32)
        return found


class DelayedFeedback:
    """The delayed feedback model: a negative held for h seconds may be a click that is still to come, with exponential delays.

    L = −log p for a click known by h, −log(1 − p + p·exp(−λh)) for none. The rate λ is learned as a whole, from every click's delay; a
    click after h teaches λ only: the likelihood has accounted for it.

    Source: Chapelle, Modeling delayed feedback in display advertising, KDD 2014, equations 6 and 7, one λ for all examples.
    """

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self._delays, self._clicks = hold_s, 1.0

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """p(1 − p)F / (1 − pF) for a negative, where F = 1 − exp(−λh) is the share of clicks that is known by h."""
        clicked = kinds != NEGATIVE
        self._delays += float(delays[clicked].sum())
        self._clicks += float(clicked.sum())
        known = np.float32(-np.expm1(-self.hold_s * self._clicks / self._delays))
        negative = p * (1 - p) * known / (1 - p * known)
        return np.where(kinds == POSITIVE, p - 1, np.where(kinds == REVISION, 0, negative)).astype(np.float32)


class ElapsedTime:
    """ES-DFM: after a negative that was held, a late click is taught once more; importance weights put the distribution right again.

    Positives and revisions weigh 1 + d, negatives (1 + d)·r, where d = p(1 − F) is the probability of a click after the hold and
    r = (1 − p)/(1 − pF) that an unclicked impression stays so. F, the share of clicks that comes within the hold, is counted as they
    come; p is the model's own, without gradient. Held for no time it is fake-negative weighting.

    Source: Yang et al., Capturing delayed feedback in conversion rate prediction via elapsed-time sampling, AAAI 2021.
    """

    def __init__(self) -> None:
        self._early, self._late = 1.0, 1.0

    def gradient(self, p: Floats, kinds: Kinds, delays: Floats) -> Floats:
        """Weight times p − y."""
        self._early += float((kinds == POSITIVE).sum())
        self._late += float((kinds == REVISION).sum())
        known = np.float32(self._early / (self._early + self._late))
        more = 1 + p * (1 - known)
        stays = (1 - p) / (1 - p * known)
        return (more * np.where(kinds == NEGATIVE, stays * p, p - 1)).astype(np.float32)
