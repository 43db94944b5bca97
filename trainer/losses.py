"""The losses, as the gradient of each example's loss with respect to its logit: that is all that learning needs.

Position in the stream decides: a negative or a positive at first sight is log loss; a revision (the label of an impression whose
negative was taught before) is `reversal` or `fnw`.
"""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from feedback.events import NEGATIVE, REVISION

Tensor = Any


def gradient(logit: Tensor, emissions: Tensor, weights: Tensor, revision: Literal["reversal", "fnw"]) -> Tensor:
    """dL/dlogit per example, float32[n].

    Log loss: f − y. `reversal`: L = −logit f, the positive's log loss less the negative's, so the gradient is −1 whatever f.
    `fnw` (fake-negative weighting): negatives weigh (1 − c)(1 + c), revisions 1 + c, where c = min(f, 0.5) without gradient:
    unclipped it diverges where f nears 1.

    Source: Ktena et al., Addressing delayed feedback for continuous training with neural networks in CTR prediction, RecSys 2019.
    """
    score = tf.sigmoid(logit)
    revised = tf.equal(emissions, REVISION)
    plain = score - tf.cast(tf.not_equal(emissions, NEGATIVE), tf.float32)
    if revision == "reversal":
        return weights * tf.where(revised, -tf.ones_like(plain), plain)
    clipped = tf.minimum(score, 0.5)
    factor = tf.where(tf.equal(emissions, NEGATIVE), (1.0 - clipped) * (1.0 + clipped), tf.ones_like(plain))
    return tf.where(revised, 1.0 + clipped, factor) * plain
