"""The optimizers, as pure functions of tensors: weights and state before, gradient summed over the step, weights and state after."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.settings import AdagradSettings, AdamSettings, FtrlSettings

Tensor = Any


def ftrl(w: Tensor, z: Tensor, n: Tensor, g: Tensor, settings: FtrlSettings) -> tuple[Tensor, Tensor, Tensor]:
    """FTRL-proximal per coordinate: weights, z and n after one step.

    Source: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1.
    """
    more = n + tf.square(g)
    sigma = (tf.sqrt(more) - tf.sqrt(n)) / settings.alpha
    z = z + g - sigma * w
    return ftrl_weight(z, more, settings), z, more


def ftrl_weight(z: Tensor, n: Tensor, settings: FtrlSettings) -> Tensor:
    """The weight that z and n stand for; for z = 0 it is 0, never −0: an untouched row keeps its bits."""
    rate = (settings.beta + tf.sqrt(n)) / settings.alpha + settings.l2
    if not settings.l1:
        return (0.0 - z) / rate
    return (0.0 - tf.sign(z) * tf.maximum(tf.abs(z) - settings.l1, 0.0)) / rate


def ftrl_start(w: Tensor, settings: FtrlSettings) -> Tensor:
    """The z with which, at n = 0, a weight begins at w."""
    return -w * (settings.beta / settings.alpha + settings.l2) - tf.sign(w) * settings.l1


def adagrad(w: Tensor, squares: Tensor, g: Tensor, settings: AdagradSettings) -> tuple[Tensor, Tensor]:
    """Adagrad on rows [m, d]: per coordinate (squares [m, d]) or row-wise (squares [m, 1], mean of the squares).

    Source: Duchi et al., JMLR 2011; row-wise: Mudigere et al., ISCA 2022.
    """
    more = tf.square(g)
    if settings.rowwise:
        more = tf.reduce_mean(more, axis=-1, keepdims=True)
    squares = squares + more
    return w - settings.rate * g * tf.math.rsqrt(squares), squares


def adam(
    w: Tensor, mean: Tensor, square: Tensor, step: Tensor, g: Tensor, settings: AdamSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam; `step` counts from 1.

    Source: Kingma and Ba, ICLR 2015.
    """
    mean = settings.beta1 * mean + (1.0 - settings.beta1) * g
    square = settings.beta2 * square + (1.0 - settings.beta2) * tf.square(g)
    rate = settings.rate * tf.sqrt(1.0 - tf.pow(settings.beta2, step)) / (1.0 - tf.pow(settings.beta1, step))
    return w - rate * mean / (tf.sqrt(square) + settings.epsilon), mean, square
