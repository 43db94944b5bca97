"""Arrival: when word of what readers did reaches the loop. Late, twice, with a wrong clock: as ordered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from newsroom import keyed
from newsroom.keyed import Doubles, Integers
from newsroom.reading import Visits
from newsroom.settings import ArrivalSettings

CLICK: Final = 0
DWELL: Final = 1
KINDS: Final = ("click", "dwell")


@dataclass(frozen=True)
class Arrivals:
    """Outcomes in the order in which they arrive. Arrays have one entry per record; a repeat has its original's `event`."""

    event: Integers
    """Names the outcome."""
    request: Integers
    """`Visits.id` of its slate."""
    article: Integers
    kind: Integers
    """Index of KINDS."""
    value: Doubles
    """Seconds of reading for `dwell`, 1 for `click`."""
    happened: Doubles
    """When, by the true clock, s."""
    stamped: Doubles
    """When, by the reader's clock, s: the event time that is sent."""
    arrives: Doubles
    """When the record is sent, s."""

    def __len__(self) -> int:
        return len(self.event)


def click_delay(settings: ArrivalSettings, seed: int, request: Integers, article: Integers) -> Doubles:
    """Seconds from impression to click: lognormal with the given mean, or exponential."""
    if not settings.delay_spread:
        shape: Doubles = keyed.exponential(seed, "delay", request, article)
    else:
        spread = settings.delay_spread
        shape = np.exp(spread * keyed.normal(seed, "delay", request, article).astype(np.float64) - spread**2 / 2)
    return settings.delay_s * shape


def dwell(settings: ArrivalSettings, seed: int, request: Integers, article: Integers) -> Doubles:
    """Seconds of reading after a click: lognormal, sd of the log 1."""
    return settings.dwell_s * np.exp(keyed.normal(seed, "dwell", request, article)).astype(np.float64)


def arrivals(settings: ArrivalSettings, visits: Visits, slates: Integers, clicked: NDArray[np.bool_]) -> Arrivals:
    """The records that come of clicks: a click, a dwell when the reading ends, and what goes wrong with either."""
    row, column = np.nonzero(clicked)
    request, article = visits.id[row], slates[row, column]
    seed = visits.seed
    at = visits.t[row] + click_delay(settings, seed, request, article)
    read = dwell(settings, seed, request, article)
    one = np.ones(len(row))
    happened, value = np.concatenate([at, at + read]), np.concatenate([one, read])
    kind = np.repeat([CLICK, DWELL], len(row))
    request, article, event = np.tile(request, 2), np.tile(article, 2), np.arange(2 * len(row))
    skew = settings.skew_s * np.tile(keyed.normal(seed, "skew", visits.reader[row]), 2).astype(np.float64)
    held = keyed.uniform(seed, "late", request, article, kind) < settings.late
    wait = held * settings.late_s * keyed.exponential(seed, "lateness", request, article, kind)
    twice = keyed.uniform(seed, "twice", request, article, kind) < settings.duplicate
    again = settings.late_s * keyed.exponential(seed, "again", request, article, kind)
    which = np.concatenate([event, event[twice]])
    arrives = np.concatenate([happened + wait, (happened + wait + again)[twice]])
    order = np.argsort(arrives, kind="stable")
    which = which[order]
    return Arrivals(
        event=which,
        request=request[which],
        article=article[which],
        kind=kind[which],
        value=value[which],
        happened=happened[which],
        stamped=(happened + skew)[which],
        arrives=arrives[order],
    )
