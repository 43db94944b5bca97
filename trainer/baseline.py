"""The baseline: each item's running click rate, learned from settled labels only, so with the same delay as the figures.

Counts are kept scaled: what is counted at time t weighs 2^((t − origin) / half-life), and is read with the inverse. So forgetting
costs nothing, and the order in which labels settle changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from trainer.groups import ValidationSettings

Array = NDArray[Any]

_REACH = 200.0
"""Half-lives from the origin at which it is moved."""
_GROW = 1024


def fingerprint(text: str) -> int:
    """A 64-bit name of a string, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Baseline:
    """Click rates per item, with a prior of the overall rate. Items are numbered; the numbers hold until `forget`."""

    def __init__(self, settings: ValidationSettings) -> None:
        self._prior, self._limit = settings.prior, settings.items
        self._half_life = to_us(settings.half_life_s)
        self._origin = 0
        self._numbers: dict[str, int] = {}
        self._counts = np.zeros((2, _GROW))
        """Clicks and impressions, scaled."""
        self._times = np.zeros((2, _GROW), np.int64)
        """First and newest sight, µs."""
        self._prints = np.zeros(_GROW, np.uint64)
        self._clicks, self._shows = 0, 0

    def number(self, items: Iterable[str], time: int) -> Array:
        """Number some items, int64[n]; one not seen before is known from `time` on."""
        known = self._numbers
        numbers = [known.get(item, -1) for item in items]
        if -1 in numbers:
            numbers = [
                self._meet(item, time) if number < 0 else number for item, number in zip(items, numbers, strict=True)
            ]
        return np.array(numbers, np.int64)

    def sight(self, numbers: Array, times: Array) -> tuple[Array, Array]:
        """Scores of items at some event times, float64[n], and how long each had been known, s."""
        rate = (self._clicks + 0.5) / (self._shows + 5.0)
        kept = self._weights(times, -1.0)
        clicks, shows = self._counts[:, numbers] * kept
        ages = np.maximum(times - self._times[0, numbers], 0) // to_us(1)
        np.maximum.at(self._times[1], numbers, times)
        return (clicks + self._prior * rate) / (shows + self._prior), ages

    def learn(self, numbers: Array, labels: Array, times: Array) -> Array:
        """Count settled labels (bool[n]); answers the items' fingerprints."""
        if self._half_life and len(times):
            self._move(int(times.max()))
        weights = self._weights(times, 1.0)
        np.add.at(self._counts[0], numbers, labels * weights)
        np.add.at(self._counts[1], numbers, weights)
        self._clicks += int(np.count_nonzero(labels))
        self._shows += len(labels)
        return self._prints[numbers]

    @property
    def crowded(self) -> bool:
        """Whether there are more items than shall be remembered: `forget` some."""
        return len(self._numbers) > self._limit

    def forget(self, used: Array) -> Array:
        """Forget those that were unseen longest, half of all; none of `used`. Answers each old number's new one (−1: none)."""
        n = len(self._numbers)
        keep = np.zeros(n, bool)
        keep[np.argsort(self._times[1, :n], kind="stable")[n // 2 :]] = True
        keep[used] = True
        moved = np.where(keep, np.cumsum(keep) - 1, -1)
        kept = np.flatnonzero(keep)
        self._counts, self._times = self._counts[:, kept].copy(), self._times[:, kept].copy()
        self._prints = self._prints[kept].copy()
        self._numbers = {item: int(moved[number]) for item, number in self._numbers.items() if keep[number]}
        return moved

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        n = len(self._numbers)
        items = sorted(self._numbers, key=self._numbers.__getitem__)
        arrays = [self._counts[:, :n].tobytes(), self._times[:, :n].tobytes()]
        return [self._clicks, self._shows, self._origin, items, *arrays]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self._clicks, self._shows, self._origin, items = state[:4]
        self._numbers = {item: number for number, item in enumerate(items)}
        self._counts = np.frombuffer(state[4], np.float64).reshape(2, -1).copy()
        self._times = np.frombuffer(state[5], np.int64).reshape(2, -1).copy()
        self._prints = np.array([fingerprint(item) for item in items], np.uint64)

    def _meet(self, item: str, time: int) -> int:
        number = self._numbers.setdefault(item, len(self._numbers))
        if number >= len(self._prints):
            room = max(_GROW, number)
            self._counts = np.pad(self._counts, ((0, 0), (0, room)))
            self._times = np.pad(self._times, ((0, 0), (0, room)))
            self._prints = np.pad(self._prints, (0, room))
        if not self._prints[number]:
            self._prints[number] = fingerprint(item)
            self._times[:, number] = time
        return number

    def _weights(self, times: Array, sign: float) -> Array:
        if not self._half_life:
            return np.ones(len(times))
        return np.asarray(np.exp2(np.clip(sign * (times - self._origin) / self._half_life, -_REACH, 2 * _REACH)))

    def _move(self, time: int) -> None:
        """Move the origin before the weights grow out of what a float holds."""
        if not self._origin:
            self._origin = time
        elapsed = (time - self._origin) / self._half_life
        if elapsed > _REACH:
            self._counts *= 2.0**-elapsed
            self._origin = time
