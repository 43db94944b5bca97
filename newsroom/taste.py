"""Taste: what draws a reader to an article besides its popularity, as a sum of effects that nobody but the world knows."""

from __future__ import annotations

import numpy as np

from newsroom import keyed
from newsroom.articles import Articles
from newsroom.keyed import Doubles, Floats, Integers
from newsroom.settings import TasteSettings


class Taste:
    """The effects of one world."""

    def __init__(self, settings: TasteSettings, seed: int, articles: Articles) -> None:
        self.settings, self.seed, self.articles = settings, seed, articles
        self._phase = keyed.uniform(seed, "moved", articles.ids)

    def of(
        self,
        articles: Integers,
        t: Doubles,
        *,
        previous: Integers,
        referrer: Integers,
        region: Integers,
        system: Integers,
        reader: Integers,
    ) -> Floats:
        """The logit beside popularity, of mean 0. All broadcast against `articles`."""
        s = self.settings
        state = np.floor(t / s.moving_s + self._phase[articles]).astype(np.int64)
        total = self._interest(articles, t, reader)
        for purpose, value, size in (
            ("previous", previous, s.previous),
            ("referrer", referrer, s.referrer),
            ("region", region, s.region),
            ("system", system, s.system),
        ):
            if size:
                total = total + size * self._effect(purpose, articles, value, state)
        return total

    def _effect(self, purpose: str, articles: Integers, value: Integers, state: Integers) -> Floats:
        moving = self.settings.moving
        found: Floats = np.float32(np.sqrt(moving)) * keyed.normal(self.seed, purpose, articles, value, state)
        if moving < 1:
            found += np.float32(np.sqrt(1 - moving)) * keyed.normal(self.seed, purpose, articles, value)
        return found

    def _interest(self, articles: Integers, t: Doubles, reader: Integers) -> Floats:
        """Drifts: each reader's interest in each section goes from one value to the next in a straight line."""
        s = self.settings
        if not s.interest:
            return np.zeros((), np.float32)
        section = self.articles.section[articles]
        passed = t / s.interest_s + keyed.uniform(self.seed, "drift", reader)
        k = np.floor(passed)
        part = (passed - k).astype(np.float32)
        now, then = (keyed.normal(self.seed, "interest", reader, section, k + more) for more in (0, 1))
        found: Floats = np.float32(s.interest) * (now * (1 - part) + then * part) / np.sqrt((1 - part) ** 2 + part**2)
        return found
