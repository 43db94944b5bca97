"""What a reader did before, as a feature of what they are shown next: only what was known when the slate was served.

The features are part of the slates themselves: a replay asks with them, training from the log learns from them, so that the two
can't differ. An outcome counts once it is older than the slate by more than the rule's `known_s`; what happened at the slate's
own moment, on the slate itself above all, never does.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from everloop.logs.mapping import FeatureRule, Mapping
from feedback.clock import to_us
from feedback.events import Value

if TYPE_CHECKING:
    from everloop.logs.slates import Happened, Slate


def remembered(slates: Iterable[Slate], mapping: Mapping) -> Iterator[Slate]:
    """Add the mapping's history features to slates that come in the order of their time."""
    histories = {rule.name: History(rule, mapping.positive) for rule in mapping.feature if rule.of == "history"}
    if not histories:
        yield from slates
        return
    for slate in slates:
        told: dict[str, Value] = {name: list(history.of(slate)) for name, history in histories.items()}
        for history in histories.values():
            history.learn(slate)
        yield replace(slate, context=slate.context | told)


class History:
    """One history feature: per reader the last different values of what they acted on, the newest first."""

    def __init__(self, rule: FeatureRule, positive: str) -> None:
        self._rule, self._outcome = rule, rule.outcome or positive
        self._known_us = to_us(rule.known_s)
        self._waiting: list[tuple[int, int, str, list[str]]] = []
        """Outcomes that no slate may know of yet: since when it may, a number for ties, reader, values."""
        self._number = 0
        self._last: dict[str, list[str]] = {}

    def of(self, slate: Slate) -> list[str]:
        """What is known of the slate's reader at its time."""
        while self._waiting and self._waiting[0][0] < slate.event_time:
            _, _, reader, values = heapq.heappop(self._waiting)
            self._remember(reader, values)
        return self._last.get(self._reader(slate), [])

    def learn(self, slate: Slate) -> None:
        """Take a slate's outcomes, for slates that come later."""
        for happened in slate.outcomes:
            if happened.kind == self._outcome and (values := self._values(slate, happened)):
                self._number += 1
                known = happened.event_time + self._known_us
                heapq.heappush(self._waiting, (known, self._number, self._reader(slate), values))

    def _remember(self, reader: str, values: list[str]) -> None:
        last = self._last.get(reader, [])
        self._last[reader] = list(dict.fromkeys([*values, *last]))[: self._rule.last]

    def _reader(self, slate: Slate) -> str:
        return slate.user if self._rule.by == "user" else str(slate.context[self._rule.by])

    def _values(self, slate: Slate, happened: Happened) -> list[str]:
        if self._rule.key == "item":
            return [happened.item]
        value = slate.features[self._rule.key][slate.items.index(happened.item)]
        return [each for each in (value if isinstance(value, list) else [str(value)]) if each]
