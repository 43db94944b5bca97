"""Readers: who comes when, from where, with what. New ones all the time; those who come back are mostly recent ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from newsroom import keyed
from newsroom.articles import DAY, READING, times_of_day
from newsroom.keyed import Doubles, Integers
from newsroom.settings import ReaderSettings

REGIONS: Final = np.array(
    [2, 5, 1, 9, 31, 18, 21, 61, 28, 7, 12, 11, 102, 8, 10, 61, 20, 5, 9, 45, 153, 4, 1, 51, 265, 6, 6, 49], np.float64
)
SYSTEMS: Final = np.array([235, 23, 8, 611, 2, 120], np.float64)
DEVICES: Final = np.array([643, 321, 36], np.float64)
ENVIRONMENTS: Final = np.array([1, 25, 973], np.float64)
REFERRERS: Final = np.array([370, 579, 6, 18, 5, 21], np.float64)
"""Shares in the log, in thousandths."""


@dataclass(frozen=True)
class Sessions:
    """Sessions in the order of their start. Arrays have one entry per session."""

    start: Doubles
    """s."""
    reader: Integers
    pages: Integers
    """Articles read."""
    referrer: Integers


def sessions(settings: ReaderSettings, seed: int, days: float) -> Sessions:
    """All sessions of a world."""
    start = times_of_day(READING, settings.visits_per_day / settings.pages, 0.0, days * DAY, seed, "session")
    ids = np.arange(len(start))
    pages = (
        1 + np.floor(np.log(keyed.uniform(seed, "pages", ids)) / np.log1p(-1 / settings.pages)).astype(np.int64)
        if settings.pages > 1
        else np.ones(len(ids), np.int64)
    )
    return Sessions(start, _who(settings, seed, ids), pages, draw(REFERRERS, seed, "referrer", ids))


def _who(settings: ReaderSettings, seed: int, ids: Integers) -> Integers:
    """Reader of each session: a new one, or that of an earlier session (the more recent, the likelier)."""
    fresh = keyed.uniform(seed, "fresh", ids) < settings.fresh
    fresh[:1] = True
    # The square root of a uniform number leans to the recent end; whoever is pointed to may point further back.
    back = np.floor(ids * np.sqrt(keyed.uniform(seed, "return", ids))).astype(np.int64)
    source = np.where(fresh, ids, np.minimum(back, np.maximum(ids - 1, 0)))
    while (source != source[source]).any():
        source = source[source]
    return (np.cumsum(fresh) - 1)[source]


def draw(shares: Doubles, seed: int, purpose: str, keys: Integers) -> Integers:
    """One of len(shares) values per key, in proportion."""
    return np.searchsorted(np.cumsum(shares / shares.sum())[:-1], keyed.uniform(seed, purpose, keys))


def region(seed: int, reader: Integers) -> Integers:
    """Where a reader lives."""
    return draw(REGIONS, seed, "region", reader)


def system(seed: int, reader: Integers) -> Integers:
    """A reader's operating system."""
    return draw(SYSTEMS, seed, "system", reader)


def device(seed: int, reader: Integers) -> Integers:
    """A reader's kind of device."""
    return draw(DEVICES, seed, "device", reader)


def environment(seed: int, reader: Integers) -> Integers:
    """A reader's environment: web, app, …"""
    return draw(ENVIRONMENTS, seed, "environ", reader)
