"""What readers read by themselves, as slates: one read, and articles that were read in the hour before.

So the real log that the world is fitted to was made. A read says of two articles what a slate's click does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from everloop.experiments.stage import rows
from newsroom.keyed import Doubles, Integers
from newsroom.log import logged
from newsroom.settings import WorldSettings
from newsroom.world import World


@dataclass(frozen=True)
class Reads:
    """Slates made of reading, in the order of time."""

    t: Doubles
    """When each was read, s."""
    rows: Integers
    """Buckets of FIELDS of each article of the slate, [reads, articles, fields]."""
    y: Integers
    """1 = read; [reads, articles]."""


def reads(settings: WorldSettings, seed: int) -> Reads:
    """All that was read in one world (but for the few reads before there was anything to compare with)."""
    world = World(settings, seed)
    log = logged(world.visits, world.articles)
    found = rows(world, log.t, log.context["prev"], log.context["ref"], log.item)
    return Reads(log.t, found, log.y.astype(np.int8))
