"""The stage for policies: one world's requests with all that a policy may ask, computed once so that every policy meets the same luck."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from newsroom import keyed
from newsroom.arrival import click_delay
from newsroom.keyed import Doubles, Floats, Integers
from newsroom.reading import Visits
from newsroom.settings import WorldSettings
from newsroom.world import World

BUCKETS: Final = 1 << 22
FIELDS: Final = ("item", "prev*item", "ref*item", "age")
"""Features of the linear model. Region, system and interest matter too, but too little to be worth learning from so few looks."""
_CHUNK: Final = 20_000


@dataclass(frozen=True)
class Stage:
    """Matrices have one row per request, one column per candidate."""

    t: Doubles
    """Time of each request, s."""
    request: Integers
    """Its key for random numbers."""
    offered: Integers
    """The articles that may be shown."""
    attraction: Floats
    """True probability of a click where the position is looked at."""
    luck: Floats
    """A click happens where this is below its probability."""
    delay: Floats
    """Seconds to the click, if there is one."""
    rows: NDArray[np.int32]
    """Buckets of FIELDS, [requests, candidates, fields]."""
    examination: Floats
    """Probability that each position is looked at."""
    seed: int

    def __len__(self) -> int:
        return len(self.t)

    def chance(self, purpose: str, columns: int) -> Floats:
        """Uniform numbers for a policy's own draws: the same for every policy that draws for the same purpose."""
        return keyed.uniform(self.seed, purpose, self.request[:, None], np.arange(columns)).astype(np.float32)


def stage(settings: WorldSettings, seed: int) -> Stage:
    """Set the stage with one world (without fatigue: each slot's truth is its own)."""
    settings = replace(settings, slates=replace(settings.slates, fatigue=0.0))
    world = World(settings, seed)
    visits = world.visits
    parts = [_part(world, visits.part(slice(at, at + _CHUNK))) for at in range(0, len(visits), _CHUNK)]
    offered, attraction, luck, delay, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Stage(
        visits.t, visits.id, offered, attraction, luck, delay, rows, world.examination.astype(np.float32), seed
    )


def _part(world: World, visits: Visits) -> tuple[NDArray[np.generic], ...]:
    offered = world.candidates(visits)
    request = visits.id[:, None]
    return (
        offered.astype(np.int32),
        world.attraction(visits, offered).astype(np.float32),
        keyed.uniform(world.seed, "click", np.array(0), request, offered).astype(np.float32),
        click_delay(world.settings.arrival, world.seed, request, offered).astype(np.float32),
        features(world, visits, offered),
    )


def features(world: World, visits: Visits, articles: Integers) -> NDArray[np.int32]:
    """The bucket of each of FIELDS of each article for each visit, [visits, articles, fields]."""
    return rows(world, visits.t, visits.previous, visits.referrer, articles)


def rows(world: World, t: Doubles, previous: Integers, referrer: Integers, articles: Integers) -> NDArray[np.int32]:
    """The same of what a visit says: its time, the article read before it, where the reader came from."""
    shape = articles.shape
    minutes = np.maximum(t[:, None] - world.articles.published[articles], 0.0) / 60
    values = {
        "item": articles,
        "age": np.floor(2 * np.log2(1 + minutes)).astype(np.int64),
        "prev": previous[:, None],
        "ref": referrer[:, None],
    }
    found = np.empty((*shape, len(FIELDS)), np.int32)
    for k, name in enumerate(FIELDS):
        bits = keyed.bits(k, name, *(values[part] for part in name.split("*")))
        found[..., k] = np.broadcast_to((bits & np.uint64(BUCKETS - 1)).astype(np.int32), shape)
    return found
