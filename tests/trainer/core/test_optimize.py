"""Every optimizer against its formula in plain numpy, over several steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import optimize
from trainer.settings import AdagradSettings, AdamSettings, FtrlSettings

RANDOM = np.random.default_rng(3)


def gradients(*shape: int) -> list[NDArray[Any]]:
    return [RANDOM.normal(size=shape).astype(np.float32) for _ in range(6)]


@pytest.mark.parametrize("settings", [FtrlSettings(), FtrlSettings(alpha=0.5, beta=2.0, l1=0.4, l2=0.1)])
def test_ftrl_is_that_of_the_paper(settings: FtrlSettings) -> None:
    w = z = n = np.zeros(7, np.float32)
    want_w, want_z, want_n = (np.zeros(7) for _ in range(3))
    for g in gradients(7):
        w, z, n = (t.numpy() for t in optimize.ftrl(w, z, n, g, settings))
        sigma = (np.sqrt(want_n + g.astype(float) ** 2) - np.sqrt(want_n)) / settings.alpha
        want_z += g - sigma * want_w
        want_n += g.astype(float) ** 2
        shrunk = np.maximum(np.abs(want_z) - settings.l1, 0.0) * np.sign(want_z)
        want_w = -shrunk / ((settings.beta + np.sqrt(want_n)) / settings.alpha + settings.l2)
        np.testing.assert_allclose(w, want_w, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(n, want_n, rtol=1e-5)


@pytest.mark.parametrize("settings", [FtrlSettings(), FtrlSettings(l1=0.3, l2=0.2)])
def test_a_new_ftrl_weight_begins_where_it_is_told_to(settings: FtrlSettings) -> None:
    w = np.array([-0.7, 0.0, 0.2], np.float32)
    z = optimize.ftrl_start(w, settings)
    np.testing.assert_allclose(optimize.ftrl_weight(z, np.zeros(3, np.float32), settings).numpy(), w, rtol=1e-5)


def test_an_ftrl_weight_without_gradient_keeps_its_bits() -> None:
    zero = np.zeros(2, np.float32)
    w, z, n = optimize.ftrl(zero, zero, zero, zero, FtrlSettings())
    assert [t.numpy().tobytes() for t in (w, z, n)] == [zero.tobytes()] * 3


@pytest.mark.parametrize("rowwise", [True, False])
def test_adagrad_divides_by_the_root_of_the_squares_so_far(rowwise: bool) -> None:
    settings = AdagradSettings(rate=0.3, rowwise=rowwise)
    w, squares = np.ones((4, 3), np.float32), np.full((4, 1 if rowwise else 3), 0.1, np.float32)
    want_w, want = w.astype(float), squares.astype(float)
    for g in gradients(4, 3):
        w, squares = (t.numpy() for t in optimize.adagrad(w, squares, g, settings))
        square = g.astype(float) ** 2
        want = want + (square.mean(axis=1, keepdims=True) if rowwise else square)
        want_w = want_w - 0.3 * g / np.sqrt(want)
        np.testing.assert_allclose(w, want_w, rtol=1e-4, atol=1e-6)


def test_adam_corrects_its_first_steps() -> None:
    settings = AdamSettings(rate=0.01)
    w = mean = square = np.zeros(5, np.float32)
    want_w, want_mean, want_square = (np.zeros(5) for _ in range(3))
    for step, g in enumerate(gradients(5), start=1):
        w, mean, square = (np.asarray(t) for t in optimize.adam(w, mean, square, np.float32(step), g, settings))
        want_mean = 0.9 * want_mean + 0.1 * g
        want_square = 0.999 * want_square + 0.001 * g.astype(float) ** 2
        corrected = want_mean / (1 - 0.9**step), want_square / (1 - 0.999**step)
        want_w = want_w - 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        np.testing.assert_allclose(w, want_w, rtol=2e-3, atol=1e-6)
