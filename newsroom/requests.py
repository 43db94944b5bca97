"""Requests: a world's visits as a web server puts them to a recommendation service, beside the truth that only the world knows.

Candidates and their truth are computed for a thousand visits at a time: one at a time they would cost more than the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feedback.errors import UnavailableError
from feedback.events import Value
from feedback.features import Feature
from newsroom.keyed import Doubles, Integers
from newsroom.reading import Visits
from newsroom.world import World
from serving.gateway.messages import Candidate

FEATURES: Final = (
    Feature(name="user", source="user"),
    Feature(name="item", source="item"),
    *(Feature(name=name, source="context") for name in ("previous", "referrer", "region", "system", "device")),
    *(Feature(name=name, source="candidate") for name in ("section", "age")),
    Feature(name="hour", source="hour"),
)
"""What the requests carry, as a loop that shall learn from all of it declares it."""
CROSSES: Final = ("previous*item", "referrer*item")
"""The pairs that matter most in this world."""
BLOCK: Final = 1_000


@dataclass(frozen=True)
class Request:
    """One reader opens one article, and a slate is wanted beside it."""

    world: World
    visit: Visits
    """Of one entry."""
    candidates: list[Candidate]
    articles: list[int]
    """The same, as the world numbers them."""
    attraction: Doubles
    """True probability of a click on each where it is looked at."""

    @property
    def t(self) -> float:
        """When, in seconds of the world."""
        return float(self.visit.t[0])

    @property
    def user(self) -> str:
        """The reader's name."""
        return f"u{self.world.seed}-{self.visit.reader[0]}"

    @property
    def context(self) -> dict[str, Value]:
        """What a web server knows of the visit."""
        visit = self.visit
        return {
            "previous": item(self.world, int(visit.previous[0])) if visit.previous[0] >= 0 else "none",
            "referrer": f"r{visit.referrer[0]}",
            "region": f"g{visit.region[0]}",
            "system": f"o{visit.system[0]}",
            "device": f"d{visit.device[0]}",
        }

    def react(self, shown: list[str]) -> Reaction:
        """What this reader does with a slate.

        Raises:
            UnavailableError: it shows what was not offered.
        """
        column = {candidate.id: k for k, candidate in enumerate(self.candidates)}
        if strange := [name for name in shown if name not in column]:
            raise UnavailableError(f"a slate shows {strange[0]!r}, which was not among its {len(column)} candidates")
        columns = [column[name] for name in shown]
        slate = np.array([self.articles])[:, columns]
        looked = self.world.examination[: len(shown)]
        truth = self.attraction[columns][None] * self.world.looked_at(slate)
        best = np.sort(self.attraction)[::-1][: len(shown)]
        return Reaction(
            slate=slate,
            clicked=self.world.clicks(self.visit, slate, truth=truth),
            truth=float(truth.sum()),
            best=float(best @ looked),
            random=float(self.attraction.mean() * looked.sum()),
        )


@dataclass(frozen=True)
class Reaction:
    """What comes of one slate, beside what could have come of others. Expected clicks are per slate."""

    slate: Integers
    """[1, positions]"""
    clicked: NDArray[np.bool_]
    """[1, positions]"""
    truth: float
    """Expected clicks."""
    best: float
    """Of the best slate of the same length (with `slates.fatigue` above 0: a bound that may be out of reach)."""
    random: float
    """Of a slate at random (with fatigue, before it tires anybody)."""


def requests(world: World, visits: Visits) -> Iterator[Request]:
    """The requests of some visits, in order."""
    for at in range(0, len(visits), BLOCK):
        some = visits.part(slice(at, at + BLOCK))
        offered = world.candidates(some)
        attraction, ages = world.attraction(some, offered), _ages(world, some, offered)
        sections = world.articles.section[offered]
        for k, articles in enumerate(offered.tolist()):
            candidates = [
                Candidate(id=item(world, article), features={"section": f"s{section}", "age": str(age)})
                for article, section, age in zip(articles, sections[k].tolist(), ages[k].tolist(), strict=True)
            ]
            yield Request(world, some.part(slice(k, k + 1)), candidates, articles, attraction[k])


def item(world: World, article: int) -> str:
    """An article's name: another world's are other articles."""
    return f"n{world.seed}-{article}"


def _ages(world: World, visits: Visits, offered: Integers) -> Integers:
    """How old each article is, in steps that are short while it is young: floor(2 · log2(1 + minutes))."""
    minutes = np.maximum(visits.t[:, None] - world.articles.published[offered], 0.0) / 60
    found: Integers = np.floor(2 * np.log2(1 + minutes)).astype(np.int64)
    return found
