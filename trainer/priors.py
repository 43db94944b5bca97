"""What a key's bootstrap heads begin with: random numbers that depend on the key alone, so that every run draws the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def priors(keys: Array, heads: int, scale: float) -> Array:
    """Standard normal numbers times `scale`, float32[m, heads], by key and head (Box–Muller on mixed bits)."""
    index = np.arange(1, heads + 1, dtype=np.uint64)
    words = keys.view(np.uint64)[:, None]
    first = _uniform(words * np.uint64(0x9E3779B97F4A7C15) + index * np.uint64(0xD6E8FEB86659FD93))
    second = _uniform(words * np.uint64(0xC2B2AE3D27D4EB4F) + index * np.uint64(0xA0761D6478BD642F))
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return (scale * normal).astype(np.float32)


def _uniform(bits: Array) -> Array:
    """Numbers in (0, 1) from 64-bit words. Source: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
