"""The world: requests for slates, what may be shown, how probable each click is, and which clicks happen.

    world = World(WorldSettings(days=0.1), seed=1)
    visits = world.visits
    offered = world.candidates(visits)            # [requests, candidates]
    slates = offered[:, :5]
    truth = world.probabilities(visits, slates)   # [requests, positions], known to nobody else
    clicked = world.clicks(visits, slates)        # the same for the same (seed, request, item)

A click needs two things: the position is looked at (which depends on nothing else), and the article attracts this reader now. With
`fatigue` above 0 an article attracts less for each of its own section higher up, so that slots do not add up any more.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from feedback.errors import UsageError
from newsroom import keyed
from newsroom.articles import MINUTE, Articles
from newsroom.keyed import Doubles, Floats, Integers
from newsroom.reading import Visits, headlines, visits
from newsroom.settings import WorldSettings
from newsroom.taste import Taste


class World:
    """One world. Everything in it is a function of its settings and its seed."""

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        """Publish the articles; readers come when `visits` is first asked for.

        Raises:
            UsageError: a setting is impossible.
        """
        settings.check()
        self.settings, self.seed = settings, seed
        self.articles = Articles(settings.articles, seed, settings.days, settings.taste.sections)
        self.taste = Taste(settings.taste, seed, self.articles)
        k = np.arange(settings.slates.positions)
        self.examination: Doubles = np.power(k + 1.0, -settings.slates.examination, dtype=np.float64)
        """Probability that each position is looked at."""

    @cached_property
    def visits(self) -> Visits:
        """All visits, in the order of time: the requests."""
        return visits(self.settings, self.seed, self.articles, self.taste)

    def noticed(self, visits: Visits) -> Integers:
        """The headlines of the front page among which each reader chose the article of his visit, [visits, headlines].

        An article may stand there more than once; the one that is read is always among them.
        """
        return headlines(self.articles, visits.t, self.settings.taste, self.seed, visits.id)

    def candidates(self, visits: Visits) -> Integers:
        """The articles that may be shown, in no order that means anything, none twice; [requests, candidates]."""
        count = self.settings.slates.candidates
        pools, _ = self._pools
        minute = self._minutes(visits)
        size = pools.shape[1]
        first = keyed.bits(self.seed, "offer", visits.id) % np.uint64(size)
        # The size is prime: any stride visits every place of the pool once.
        stride = 1 + keyed.bits(self.seed, "stride", visits.id) % np.uint64(size - 1)
        places = (first[:, None] + stride[:, None] * np.arange(count, dtype=np.uint64)) % np.uint64(size)
        return pools[minute[:, None], places.astype(np.int64)]

    def attraction(self, visits: Visits, articles: Integers) -> Doubles:
        """Probability of a click on each article at a position that is looked at; [requests, articles]."""
        s = self.settings.slates
        popularity = self.articles.log_popularity(articles, visits.t[:, None])
        level = self._pools[1][self._minutes(visits)][:, None]
        taste = self.taste.of(
            articles,
            visits.t[:, None],
            previous=visits.previous[:, None],
            referrer=visits.referrer[:, None],
            region=visits.region[:, None],
            system=visits.system[:, None],
            reader=visits.reader[:, None],
        )
        logit = s.base + s.popularity * np.maximum(popularity - level, -20.0) + s.taste * taste
        found: Doubles = 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
        return found

    def probabilities(self, visits: Visits, slates: Integers) -> Doubles:
        """Probability of a click at each position of any slates; [requests, positions]."""
        return self.attraction(visits, slates) * self.looked_at(slates)

    def looked_at(self, slates: Integers) -> Doubles:
        """What position and fatigue leave of each attraction; [requests, positions]."""
        if slates.shape[1] > len(self.examination):
            raise UsageError(f"a slate of {slates.shape[1]}: slates.positions = {len(self.examination)} at most")
        share = np.broadcast_to(self.examination[: slates.shape[1]], slates.shape)
        fatigue = self.settings.slates.fatigue
        if not fatigue:
            return share
        section = self.articles.section[slates]
        above = np.tril(section[:, :, None] == section[:, None, :], -1).sum(axis=2)
        tired: Doubles = share * (1.0 - fatigue) ** above
        return tired

    def clicks(
        self, visits: Visits, slates: Integers, *, draw: int = 0, truth: Doubles | None = None
    ) -> NDArray[np.bool_]:
        """Which positions are clicked: the same for the same (seed, request, item), whoever shows it. `draw`: another luck."""
        p = self.probabilities(visits, slates) if truth is None else truth
        return keyed.uniform(self.seed, "click", np.array(draw), visits.id[:, None], slates) < p

    @cached_property
    def _pools(self) -> tuple[Integers, Floats]:
        """What retrieval offers in each minute, drawn by tempered popularity; and the mean log popularity of it."""
        s = self.settings.slates
        found, level = [], []
        for minute, (some, logs) in enumerate(self.articles.minutes):
            size = _prime(min(s.pool, len(some)))
            if size < s.candidates:
                raise UsageError(
                    f"minute {minute}: {len(some)} articles are read, slates.candidates = {s.candidates} are asked for"
                )
            noise = -np.log(keyed.exponential(self.seed, "pool", some, np.array(int(minute * MINUTE // s.pool_s))))
            best = np.argsort(-(s.temper * logs + noise), kind="stable")[:size]
            found.append(some[best])
            level.append(logs[best].mean())
        size = min(map(len, found))
        return np.array([each[:size] for each in found]), np.array(level, np.float32)

    def _minutes(self, visits: Visits) -> Integers:
        found: Integers = np.minimum((visits.t / MINUTE).astype(np.int64), len(self.articles.minutes) - 1)
        return found


def _prime(limit: int) -> int:
    """The greatest prime up to `limit`; 0 below 2."""
    return next((n for n in range(limit, 1, -1) if all(n % k for k in range(2, int(n**0.5) + 1))), 0)
