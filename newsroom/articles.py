"""Articles: published through the day, each with a weight of its own, a burst and a decay; how popular what is in which minute."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np

from newsroom import keyed
from newsroom.keyed import Doubles, Floats, Integers
from newsroom.settings import ArticleSettings

MINUTE: Final = 60.0
DAY: Final = 86_400.0
PAST: Final = 1.5 * DAY
"""How long before the world begins its first articles were published, s."""
PUBLISHING: Final = np.array(
    [1, 1, 1, 1, 1, 1, 2, 3, 5, 8, 12, 14, 13, 12, 11, 11, 10, 10, 9, 8, 7, 6, 4, 2], np.float64
)
"""Articles by hour of the day, in proportion."""
READING: Final = np.array(
    [12, 11, 7.5, 4.5, 2.6, 1.5, 1.2, 1.5, 2.9, 6, 9.5, 14.5, 13, 14, 16, 18.5, 20, 17.5, 17.5, 18.5, 19.5, 16, 14, 11],
    np.float64,
)
"""Reading by hour of the day (UTC), in proportion: the average over the two days of the log."""
FLOOR: Final = 1e-4
"""An article with less than this share of the greatest popularity is not read any more."""


class Articles:
    """All articles of one world. Arrays have one entry per article, in the order of publication."""

    def __init__(self, settings: ArticleSettings, seed: int, days: float, sections: int) -> None:
        self.settings, self.seed, self.days = settings, seed, days
        self.published = times_of_day(PUBLISHING, settings.per_day, -PAST, days * DAY, seed, "publish")
        self.ids: Integers = np.arange(len(self.published))
        self.section: Integers = (keyed.bits(seed, "section", self.ids) % np.uint64(sections)).astype(np.int64)
        self.weight = settings.spread * keyed.normal(seed, "weight", self.ids)
        self.life = settings.life_s * np.exp(settings.life_spread * keyed.normal(seed, "life", self.ids))
        self.breaking = keyed.uniform(seed, "breaking", self.ids) < settings.breaking_per_day / settings.per_day
        self.rise = np.where(self.breaking, settings.rise_s / 10, settings.rise_s)

    def log_popularity(self, articles: Integers, t: Doubles) -> Floats:
        """Log of the popularity at a time, s; −inf before publication. `t` broadcasts against `articles`."""
        age = t - self.published[articles]
        grown = np.maximum(age, 1.0) / self.rise[articles]
        placed = keyed.normal(
            self.seed,
            "placement",
            articles,
            np.floor(t / self.settings.placement_s + keyed.uniform(self.seed, "phase", articles)),
        )
        height = (
            self.weight[articles] + self.settings.breaking * self.breaking[articles] + self.settings.placement * placed
        )
        # Rises as 1 − exp(−age / rise), decays as exp(−age / life): the first never divides by zero.
        shape = np.log(-np.expm1(-grown)) - np.maximum(age, 0.0) / self.life[articles]
        found: Floats = np.where(age >= 0, height + shape, -np.inf).astype(np.float32)
        return found

    @cached_property
    def minutes(self) -> list[tuple[Integers, Floats]]:
        """For each minute the articles that are read in it, and the log of their popularity."""
        return [self._minute(k * MINUTE + MINUTE / 2) for k in range(int(np.ceil(self.days * DAY / MINUTE)))]

    def _minute(self, t: float) -> tuple[Integers, Floats]:
        first = int(np.searchsorted(self.published, t - 10 * DAY))
        last = int(np.searchsorted(self.published, t))
        some = self.ids[first:last]
        logs = self.log_popularity(some, np.array(t))
        keep = logs > logs.max() + np.log(FLOOR)
        return some[keep], logs[keep]


def times_of_day(rhythm: Doubles, per_day: float, start: float, end: float, seed: int, purpose: str) -> Doubles:
    """Times of a Poisson process between two times, s, in order, whose rate follows the hours of the day."""
    hours = np.arange(np.floor(start / 3600), np.ceil(end / 3600))
    random = np.random.Generator(np.random.Philox(key=int(keyed.bits(seed, purpose))))
    rate = per_day * rhythm / rhythm.sum()
    counts = random.poisson(rate[hours.astype(int) % 24])
    times = np.sort((np.repeat(hours, counts) + random.random(int(counts.sum()))) * 3600)
    return times[(times >= start) & (times < end)]
