"""The visits as a log of slates, made as the real news log was: one real click, four articles that were read in the hour before.

Negatives are drawn in proportion to popularity in that hour, none twice and never the clicked one, and stand in random order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from newsroom import keyed
from newsroom.articles import Articles
from newsroom.keyed import Doubles, Floats, Integers
from newsroom.reading import Visits

HOUR: Final = 3_600.0
_DRAWS: Final = 24


@dataclass(frozen=True)
class Log:
    """Slates, one after another, in the order of time. Matrices have one column per position; the others one entry per slate."""

    t: Doubles
    """s."""
    item: Integers
    """[slates, positions]"""
    y: Floats
    """1 = clicked; [slates, positions]"""
    context: dict[str, Integers]
    """Per slate: user, prev, env, dev, os, region, ref."""
    age: Integers
    """floor(log2(1 + minutes since the article's first click)); [slates, positions]"""

    def __len__(self) -> int:
        return len(self.t)


def logged(visits: Visits, articles: Articles, *, negatives: int = 4) -> Log:
    """Make slates of visits. Those that find too few different articles in the hour before are left out."""
    count = len(visits)
    here: Integers = np.arange(count)
    start = np.searchsorted(visits.t, visits.t - HOUR)
    chance = keyed.uniform(visits.seed, "negative", visits.id[:, None], np.arange(_DRAWS))
    drawn = visits.article[(start[:, None] + chance * (here - start)[:, None]).astype(np.int64)]
    found = np.concatenate([visits.article[:, None], drawn], axis=1)
    new = np.ones(found.shape, np.bool_)
    for k in range(1, found.shape[1]):
        new[:, k] = (found[:, :k] != found[:, k : k + 1]).all(axis=1)
    enough = new.sum(axis=1) > negatives
    first = np.argsort(~new, axis=1, kind="stable")[:, : negatives + 1]
    item = np.take_along_axis(found, first, axis=1)
    shuffle = np.argsort(keyed.uniform(visits.seed, "shuffle", visits.id[:, None], np.arange(negatives + 1)), axis=1)
    item, y = np.take_along_axis(item, shuffle, axis=1)[enough], (shuffle == 0).astype(np.float32)[enough]
    visits = visits.part(enough)
    return Log(visits.t, item, y, context(visits), _age(visits, item, len(articles.ids)))


def context(visits: Visits) -> dict[str, Integers]:
    """What is known of the reader and the visit, by the names of the log's columns."""
    return {
        "user": visits.reader,
        "prev": visits.previous,
        "env": visits.environment,
        "dev": visits.device,
        "os": visits.system,
        "region": visits.region,
        "ref": visits.referrer,
    }


def _age(visits: Visits, item: Integers, articles: int) -> Integers:
    first = np.full(articles, np.inf)
    np.minimum.at(first, visits.article, visits.t)
    minutes = np.maximum(visits.t[:, None] - first[item], 0.0) / 60
    found: Integers = np.floor(np.log2(1 + minutes)).astype(np.int64)
    return found
