"""The front page as slates: the headlines that a reader notices when he looks for the next article, and the one that he opens.

Nobody whose policy is tried has chosen them, and they are the same whoever chooses the slates beside the articles. A newsroom that
reports them to the gateway (`POST /v1/slates`) lets its model learn from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everloop.experiments.stage import rows
from newsroom.arrival import click_delay
from newsroom.keyed import Doubles, Integers
from newsroom.settings import WorldSettings
from newsroom.world import World

_CHUNK = 20_000


@dataclass(frozen=True)
class FrontPage:
    """Impressions in the order of time, one for each article of each visit's headlines."""

    t: Doubles
    """When it was noticed, s."""
    rows: NDArray[np.int32]
    """Buckets of FIELDS, [impressions, fields]."""
    delay: Doubles
    """Seconds until it was opened; inf: it was not."""
    article: Integers
    """The article opened, per visit."""


def front_page(settings: WorldSettings, seed: int) -> FrontPage:
    """All headlines that are noticed in one world.

    A click comes as late as one on a slate of recommendations would, though here the reader has chosen already when his visit begins.
    """
    world = World(settings, seed)
    visits = world.visits
    found = []
    for at in range(0, len(visits), _CHUNK):
        some = visits.part(slice(at, at + _CHUNK))
        noticed = world.noticed(some)
        row, column = np.nonzero(once(noticed))
        article = noticed[row, column]
        late = click_delay(settings.arrival, seed, some.id[row], article)
        found.append(
            (
                some.t[row],
                rows(world, some.t, some.previous, some.referrer, noticed)[row, column],
                np.where(article == some.article[row], late, np.inf).astype(np.float64),
            )
        )
    t, buckets, delay = (np.concatenate(part) for part in zip(*found, strict=True))
    return FrontPage(t, buckets, delay, visits.article)


def once(noticed: Integers) -> NDArray[np.bool_]:
    """The first of each article of a row; [visits, headlines]."""
    order = np.argsort(noticed, axis=1, kind="stable")
    ordered = np.take_along_axis(noticed, order, axis=1)
    first = np.ones(noticed.shape, np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    found = np.empty_like(first)
    np.put_along_axis(found, order, first, axis=1)
    return found
