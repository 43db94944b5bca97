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
    *(Feature(name=name, source="context") for name in ("page", "previous", "referrer", "region", "system", "device")),
    *(Feature(name=name, source="candidate") for name in ("section", "age")),
    Feature(name="hour", source="hour"),
)
"""What the requests carry, as a loop that shall learn from all of it declares it."""
CROSSES: Final = ("previous*item", "referrer*item")
"""The pairs that matter most in this world."""
BLOCK: Final = 1_000
ARTICLE, FRONT_PAGE = "article", "front_page"
"""Pages: the slate beside an article, which the loop chooses, and the front page, which it doesn't. One is clicked more often than the
other, and that is not to be learned as what its articles are worth."""


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
    front: list[Candidate]
    """The headlines of the front page that he has noticed, each once; none unless they were asked for."""
    headlines: list[int]
    """The same, as the world numbers its articles."""

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
            "page": ARTICLE,
            "previous": item(self.world, int(visit.previous[0])) if visit.previous[0] >= 0 else "none",
            "referrer": f"r{visit.referrer[0]}",
            "region": f"g{visit.region[0]}",
            "system": f"o{visit.system[0]}",
            "device": f"d{visit.device[0]}",
        }

    def opened(self) -> Reaction:
        """What this reader has done with the headlines: one of them is the article that he reads."""
        slate = np.array([self.headlines])
        return Reaction(slate=slate, clicked=slate == self.visit.article[:, None])

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
    truth: float = 0.0
    """Expected clicks."""
    best: float = 0.0
    """Of the best slate of the same length (with `slates.fatigue` above 0: a bound that may be out of reach)."""
    random: float = 0.0
    """Of a slate at random (with fatigue, before it tires anybody)."""


def requests(world: World, visits: Visits, *, front_page: bool = False) -> Iterator[Request]:
    """The requests of some visits, in order; with what their readers have noticed on the front page, where that is asked for."""
    for at in range(0, len(visits), BLOCK):
        some = visits.part(slice(at, at + BLOCK))
        offered = world.candidates(some)
        attraction, listed = world.attraction(some, offered), _listed(world, some, offered)
        headlines = world.noticed(some) if front_page else np.empty((len(some), 0), np.int64)
        noticed = _listed(world, some, headlines)
        for k, articles in enumerate(offered.tolist()):
            # A headline that stands there twice is noticed where it stands first.
            front = dict(zip(headlines[k].tolist(), noticed[k], strict=True))
            yield Request(
                world, some.part(slice(k, k + 1)), listed[k], articles, attraction[k], list(front.values()), list(front)
            )


def _listed(world: World, visits: Visits, articles: Integers) -> list[list[Candidate]]:
    """Articles as a web server lists them for each visit."""
    ages, sections = _ages(world, visits, articles).tolist(), world.articles.section[articles].tolist()
    return [
        [
            Candidate(id=item(world, article), features={"section": f"s{section}", "age": str(age)})
            for article, section, age in zip(*each, strict=True)
        ]
        for each in zip(articles.tolist(), sections, ages, strict=True)
    ]


def item(world: World, article: int) -> str:
    """An article's name: another world's are other articles."""
    return f"n{world.seed}-{article}"


def _ages(world: World, visits: Visits, offered: Integers) -> Integers:
    """How old each article is, in steps that are short while it is young: floor(2 · log2(1 + minutes))."""
    minutes = np.maximum(visits.t[:, None] - world.articles.published[offered], 0.0) / 60
    found: Integers = np.floor(2 * np.log2(1 + minutes)).astype(np.int64)
    return found
