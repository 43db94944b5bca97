"""FTRL on hashed features in numpy: the learner that the experiments use, where thousands of small models are learned.

The same arithmetic as the trainer's linear weights (`trainer/optimize.py`; a test compares them), without its slots, so that a step of a
few rows costs microseconds rather than a call into TensorFlow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32] | NDArray[np.int64]
"""Weights of each example, [n, fields]: the hashed buckets of its features."""

Floats = NDArray[np.float32]


class Ftrl:
    """A linear model: one weight per bucket, FTRL-proximal per coordinate, gradients of a step summed per weight."""

    def __init__(self, buckets: int, *, alpha: float, beta: float = 1.0) -> None:
        self.alpha, self.beta = np.float32(alpha), np.float32(beta)
        self.w, self.z, self.n = (np.zeros(buckets, np.float32) for _ in range(3))
        self._gradient = np.zeros(buckets, np.float32)

    def logits(self, rows: Rows) -> Floats:
        """The sum of each example's weights."""
        return logits(self.w, rows)

    def learn(self, rows: Rows, gradient: Floats) -> None:
        """Take one step. `gradient`: dL/dlogit per example.

        Source: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1.
        """
        flat = rows.ravel()
        # Summed in a dense scratch and read back per occurrence: what comes twice is computed twice, alike, and never sorted.
        np.add.at(self._gradient, flat, np.repeat(gradient, rows.shape[1]))
        g = self._gradient[flat]
        self._gradient[flat] = 0
        before = self.n[flat]
        n = before + g * g
        root = np.sqrt(n)
        z = self.z[flat] + g - (root - np.sqrt(before)) / self.alpha * self.w[flat]
        self.z[flat], self.n[flat] = z, n
        self.w[flat] = -z * self.alpha / (self.beta + root)


def logits(weights: Floats, rows: Rows) -> Floats:
    """The sum of each example's weights under weights kept from some earlier moment."""
    found: Floats = weights[rows].sum(axis=1)
    return found


def sigmoid(logit: Floats) -> Floats:
    """The logistic function; saturates without a warning."""
    found: Floats = np.float32(1) / (np.float32(1) + np.exp(-np.clip(logit, -30, 30)))
    return found
