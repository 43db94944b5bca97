"""Reading: what readers read by themselves. Each picks among the headlines that he notices, by popularity and taste.

The result is the world's own click log; the same visits are the requests for slates, which stand beside what is being read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from newsroom import keyed, readers
from newsroom.articles import DAY, MINUTE, Articles
from newsroom.keyed import Doubles, Integers
from newsroom.settings import TasteSettings, WorldSettings
from newsroom.taste import Taste


@dataclass(frozen=True)
class Visits:
    """Articles read, in the order of time. Arrays have one entry per visit; `id` is its key for random numbers."""

    seed: int
    id: Integers
    t: Doubles
    """s."""
    reader: Integers
    referrer: Integers
    previous: Integers
    """The article read before in the session; −1: none."""
    article: Integers
    """The article that is read now."""

    def __len__(self) -> int:
        return len(self.id)

    @cached_property
    def region(self) -> Integers:
        """Where the reader lives."""
        return readers.region(self.seed, self.reader)

    @cached_property
    def system(self) -> Integers:
        """The reader's operating system."""
        return readers.system(self.seed, self.reader)

    @cached_property
    def device(self) -> Integers:
        """The reader's kind of device."""
        return readers.device(self.seed, self.reader)

    @cached_property
    def environment(self) -> Integers:
        """The reader's environment."""
        return readers.environment(self.seed, self.reader)

    def part(self, which: Integers | slice) -> Visits:
        """Some of them."""
        return Visits(
            self.seed,
            *(getattr(self, name)[which] for name in ("id", "t", "reader", "referrer", "previous", "article")),
        )


def visits(settings: WorldSettings, seed: int, articles: Articles, taste: Taste) -> Visits:
    """All visits of a world, one page of every session after another."""
    sessions = readers.sessions(settings.readers, seed, settings.days)
    region, system = readers.region(seed, sessions.reader), readers.system(seed, sessions.reader)
    which: Integers = np.arange(len(sessions.start))
    t, previous = sessions.start.copy(), np.full(len(which), -1)
    found: list[tuple[Integers, ...]] = []
    page = 0
    while len(which):
        key = which * 1_000 + page
        at = t[which]
        noticed = headlines(articles, at, settings.taste, seed, key)
        drawn = taste.of(
            noticed,
            at[:, None],
            previous=previous[which][:, None],
            referrer=sessions.referrer[which][:, None],
            region=region[which][:, None],
            system=system[which][:, None],
            reader=sessions.reader[which][:, None],
        )
        # The greatest of logit plus Gumbel noise is a draw from the softmax.
        noise = -np.log(keyed.exponential(seed, "choose", key[:, None], noticed))
        article = noticed[np.arange(len(which)), np.argmax(drawn + noise, axis=1)]
        found.append((key, at, sessions.reader[which], sessions.referrer[which], previous[which], article))
        previous[which] = article
        page += 1
        t[which] += settings.readers.pause_s * keyed.exponential(seed, "pause", key)
        which = which[(sessions.pages[which] > page) & (t[which] < settings.days * DAY) & (page < 1_000)]
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = np.argsort(columns[1], kind="stable")
    return Visits(seed, *(column[order] for column in columns))


def headlines(articles: Articles, t: Doubles, settings: TasteSettings, seed: int, visit: Integers) -> Integers:
    """What each visit's reader notices of the front page, by popularity; [visits, headlines]."""
    return sample(articles, t, settings.headlines, seed, "notice", visit)


def sample(
    articles: Articles, t: Doubles, count: int, seed: int, purpose: str, key: Integers, *, temper: float = 1.0
) -> Integers:
    """`count` articles for each time, each drawn in proportion to its popularity to the power of `temper`; [n, count].

    The same article may be drawn more than once. `t` need not be in order.
    """
    minute = np.minimum((t / MINUTE).astype(np.int64), len(articles.minutes) - 1)
    order = np.argsort(minute, kind="stable")
    chance = keyed.uniform(seed, purpose, key[order][:, None], np.arange(count))
    found = np.empty((len(t), count), np.int64)
    starts = np.flatnonzero(np.diff(minute[order], prepend=-1) > 0).tolist()
    for start, end in zip(starts, [*starts[1:], len(t)], strict=True):
        some, logs = articles.minutes[minute[order[start]]]
        sums = np.cumsum(np.exp(temper * (logs - logs.max()), dtype=np.float64))
        found[order[start:end]] = some[np.searchsorted(sums, chance[start:end] * sums[-1])]
    return found
