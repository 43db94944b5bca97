"""Random numbers that are a function of what they are for: (seed, purpose, whose, when), in any order, any number of times.

So two policies that show the same item to the same request meet the same luck, whatever else they did before.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[Any]
Bits = NDArray[np.uint64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_NORMAL: Final = np.array([NormalDist().inv_cdf((k + 0.5) / 4096) for k in range(4096)], np.float32)


def bits(seed: int, purpose: str, *keys: Integers) -> Bits:
    """64 random bits per entry of the broadcast keys (integers; −1 is a key like any other).

    Source: the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), once per key.
    """
    start = (seed * 0x9E3779B97F4A7C15 + int.from_bytes(purpose.encode()[:8].ljust(8), "little")) & (2**64 - 1)
    found: Bits = np.array(start, np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            found = _mix(found + np.asarray(key).astype(np.int64, copy=False).view(np.uint64) * _STEP)
    return found


def uniform(seed: int, purpose: str, *keys: Integers) -> Doubles:
    """A number in (0, 1) per entry."""
    return ((bits(seed, purpose, *keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(seed: int, purpose: str, *keys: Integers) -> Floats:
    """A standard normal number per entry, of 4,096 equally likely values."""
    found: Floats = _NORMAL[(bits(seed, purpose, *keys) >> np.uint64(52)).astype(np.int64)]
    return found


def exponential(seed: int, purpose: str, *keys: Integers) -> Doubles:
    """A number of the exponential distribution of mean 1 per entry."""
    found: Doubles = -np.log(uniform(seed, purpose, *keys))
    return found


def _mix(x: Bits) -> Bits:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
