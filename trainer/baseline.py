"""The baseline: each item's running click rate, learned from settled labels only, so with the same delay as the figures."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from feedback.clock import to_us
from trainer.groups import ValidationSettings

_CLICKS, _SHOWS, _LAST, _FIRST, _PRINT = range(5)


def fingerprint(text: str) -> int:
    """A 64-bit name of a string, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Baseline:
    """Click rates per item, with a prior of the overall rate, forgetting by half-lives of event time."""

    def __init__(self, settings: ValidationSettings) -> None:
        self._prior, self._limit = settings.prior, settings.items
        self._half_life = to_us(settings.half_life_s)
        self._items: dict[str, list[Any]] = {}
        self._clicks, self._shows = 0.0, 0.0

    def sight(self, items: Sequence[str], event_time: int) -> tuple[list[float], list[int]]:
        """Scores of some items, and how long each has been known, s; an item not seen before is known from now on."""
        rate = (self._clicks + 0.5) / (self._shows + 5.0)
        scores, ages = [], []
        for item in items:
            state = self._items.get(item)
            if state is None:
                state = self._items[item] = [0.0, 0.0, event_time, event_time, fingerprint(item)]
                if len(self._items) > self._limit:
                    self._forget()
            kept = self._kept(event_time - state[_LAST])
            scores.append((state[_CLICKS] * kept + self._prior * rate) / (state[_SHOWS] * kept + self._prior))
            ages.append(max(0, event_time - state[_FIRST]) // 1_000_000)
        return scores, ages

    def learn(self, items: Sequence[str], labels: Sequence[int], event_time: int) -> list[int]:
        """Count settled labels; answers the items' fingerprints."""
        prints = []
        for item, label in zip(items, labels, strict=True):
            state = self._items.get(item)
            if state is None:
                state = self._items[item] = [0.0, 0.0, event_time, event_time, fingerprint(item)]
            kept = self._kept(event_time - state[_LAST])
            state[_CLICKS] = state[_CLICKS] * kept + label
            state[_SHOWS] = state[_SHOWS] * kept + 1.0
            state[_LAST] = max(state[_LAST], event_time)
            prints.append(state[_PRINT])
        self._clicks += sum(labels)
        self._shows += len(labels)
        return prints

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [self._clicks, self._shows, self._items]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self._clicks, self._shows, self._items = state

    def _kept(self, elapsed: int) -> float:
        if not self._half_life or elapsed <= 0:
            return 1.0
        return float(0.5 ** (elapsed / self._half_life))

    def _forget(self) -> None:
        """Drop the half that was unseen longest: by count, so that a repeated run drops the same ones."""
        oldest = sorted(self._items, key=lambda item: (self._items[item][_LAST], item))
        for item in oldest[: len(oldest) // 2]:
            del self._items[item]
