"""Every loss against the numerical derivative of its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from feedback.events import NEGATIVE, POSITIVE, REVISION
from trainer import losses

LOGITS = np.array([-3.0, -0.4, 0.0, 0.7, 2.5])


def sigmoid(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


def derivative(loss: Callable[[float], float], x: float) -> float:
    step = 1e-5
    return (loss(x + step) - loss(x - step)) / (2 * step)


def given(emission: int, revision: Literal["reversal", "fnw"], weight: float = 1.0) -> list[float]:
    n = len(LOGITS)
    out = losses.gradient(
        LOGITS.astype(np.float32),
        np.full(n, emission, np.int8),
        np.full(n, weight, np.float32),
        revision,
    )
    return [float(g) for g in out.numpy()]


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_log_loss_is_weighted(weight: float) -> None:
    for x, negative, positive in zip(
        LOGITS, given(NEGATIVE, "reversal", weight), given(POSITIVE, "reversal", weight), strict=True
    ):
        assert negative == pytest.approx(derivative(lambda v: -weight * np.log(1 - sigmoid(v)), x), rel=1e-4)
        assert positive == pytest.approx(derivative(lambda v: -weight * np.log(sigmoid(v)), x), rel=1e-4)


def test_reversal_takes_the_negative_back_and_teaches_the_positive() -> None:
    def loss(x: float) -> float:
        return float(-np.log(sigmoid(x)) + np.log(1 - sigmoid(x)))

    for x, g in zip(LOGITS, given(REVISION, "reversal"), strict=True):
        assert g == pytest.approx(derivative(loss, x), rel=1e-4)


def test_fnw_weighs_with_the_clipped_score_without_gradient() -> None:
    for x, negative, revision in zip(LOGITS, given(NEGATIVE, "fnw"), given(REVISION, "fnw"), strict=True):
        c = min(sigmoid(x), 0.5)
        assert negative == pytest.approx((1 - c) * (1 + c) * sigmoid(x), rel=1e-4)
        assert revision == pytest.approx((1 + c) * (sigmoid(x) - 1), rel=1e-4)


def test_a_negative_and_its_reversal_are_one_positive() -> None:
    together = np.array(given(NEGATIVE, "reversal")) + given(REVISION, "reversal")
    np.testing.assert_allclose(together, given(POSITIVE, "reversal"), atol=1e-6)
