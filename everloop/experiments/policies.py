"""The policies that are tried on a stage: each shows slates, and learns (or not) from the clicks on its own slates only.

All but the oracle explore alike: each slot is given to any candidate with probability EXPLORE. What a policy knows at a request
is what had arrived by then.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from everloop.experiments.emission import LabelRule, emissions
from everloop.experiments.ftrl import Ftrl, logits, sigmoid
from everloop.experiments.stage import BUCKETS, Stage
from feedback.events import NEGATIVE, REVISION
from newsroom.keyed import Doubles, Floats, Integers

EXPLORE: Final = 0.05
PRIOR: Final = 10.0
"""Looks with which an article's click rate begins at the average, for popularity."""
STEP: Final = 128
"""Examples in a step of the learner at most."""
ALPHA: Final = 0.3


@dataclass(frozen=True)
class Played:
    """What a policy showed: columns of the stage's candidates, [requests, positions]."""

    slates: Integers

    def truth(self, stage: Stage) -> Floats:
        """True probability of a click at each position."""
        found: Floats = np.take_along_axis(stage.attraction, self.slates, axis=1) * stage.examination
        return found

    def clicked(self, stage: Stage) -> Integers:
        """Which positions were clicked."""
        found: Integers = np.take_along_axis(stage.luck, self.slates, axis=1) < self.truth(stage)
        return found


def ranked(scores: Floats, positions: int) -> Integers:
    """The columns of the greatest scores, best first; [requests, positions]."""
    found: Integers = np.argsort(-scores, axis=1, kind="stable")[:, :positions]
    return found


def explored(scores: Floats, dice: Floats, positions: int) -> Integers:
    """The best first, but with probability EXPLORE a slot goes to any candidate that is not on the slate yet.

    `dice`: two uniform numbers per slot.
    """
    slates = ranked(scores, positions)
    for row, slot in np.argwhere(dice[:, :positions] < EXPLORE).tolist():
        slate = slates[row].tolist()
        other = int(dice[row, positions + slot] * scores.shape[1])
        if other in slate:
            here = slate.index(other)
            slate[slot], slate[here] = slate[here], slate[slot]
        else:
            slate[slot] = other
        slates[row] = slate
    return slates


def oracle(stage: Stage) -> Played:
    """The slate with the greatest click probability: knows the truth."""
    return Played(ranked(stage.attraction, len(stage.examination)))


def uniform(stage: Stage) -> Played:
    """Any slate, each as likely."""
    return Played(ranked(stage.chance("random", stage.offered.shape[1]), len(stage.examination)))


def popularity(stage: Stage, half_life_s: float) -> Played:
    """Each article's clicks over looks, both decayed, known up to the very request; positions weigh as much as they are looked at."""
    positions, dice = len(stage.examination), _dice(stage)
    articles = int(stage.offered.max()) + 1
    clicks, looks = np.zeros(articles), np.zeros(articles)
    last = np.zeros(articles)
    examination = stage.examination.astype(np.float64)
    slates = np.empty((len(stage), positions), np.int64)
    coming: list[tuple[float, int]] = []
    all_clicks, all_looks = 1.0, 10.0
    rate = -math.log(2) / half_life_s
    for k, t in enumerate(stage.t.tolist()):
        while coming and coming[0][0] <= t:
            at, article = heapq.heappop(coming)
            # Decayed to the article's own last update, which may be after the click.
            clicks[article] += math.exp(rate * max(last[article] - at, 0.0)) if last[article] >= at else 0.0
            if last[article] < at:
                keep = math.exp(rate * (at - last[article]))
                clicks[article], looks[article], last[article] = clicks[article] * keep + 1.0, looks[article] * keep, at
            all_clicks += 1.0
        offered = stage.offered[k]
        keep_all = np.exp(rate * (t - last[offered]))
        known = (clicks[offered] * keep_all + PRIOR * all_clicks / all_looks) / (looks[offered] * keep_all + PRIOR)
        slate = explored(known[None, :], dice[k : k + 1], positions)[0]
        slates[k] = slate
        shown = offered[slate]
        kept = keep_all[slate]
        clicks[shown] *= kept
        looks[shown] = looks[shown] * kept + examination
        last[shown] = t
        all_looks += float(examination.sum())
        hit = stage.luck[k, slate] < stage.attraction[k, slate] * stage.examination
        for article, delay in zip(shown[hit].tolist(), stage.delay[k, slate[hit]].tolist(), strict=True):
            heapq.heappush(coming, (t + delay, article))
    return Played(slates)


@dataclass(frozen=True)
class Refresh:
    """How often the served weights are brought up to the learner's."""

    every_s: float
    """Seconds between two refreshes."""
    until_s: float = math.inf
    """After this none comes any more."""


def model(stage: Stage, refresh: Refresh, rule: LabelRule, *, lateness_s: float = 10.0, alpha: float = ALPHA) -> Played:
    """A linear model that learns from what its own slates brought, as the join emits it, and is served refreshed now and then.

    `lateness_s`: how much later than their time negatives come, since the join waits for events that are late.
    """
    positions, dice = len(stage.examination), _dice(stage)
    fields = stage.rows.shape[2] + 1
    learner = Ftrl(BUCKETS + positions, alpha=alpha)
    served = learner.w
    slates = np.empty((len(stage), positions), np.int64)
    waiting = Waiting(fields)
    start, end = 0, 0
    while start < len(stage):
        t = float(np.floor(stage.t[start] / refresh.every_s + 1) * refresh.every_s)
        end = int(np.searchsorted(stage.t, min(t, _block_end(stage, start, t)), side="left"))
        end = max(end, start + 1)
        part = slice(start, end)
        scores = logits(served, stage.rows[part].reshape(-1, fields - 1)).reshape(end - start, -1)
        slates[part] = slate = explored(scores, dice[part], positions)
        waiting.add(*_examples(stage, part, slate, rule, lateness_s))
        until = float(stage.t[end]) if end < len(stage) else math.inf
        if t <= until or end == len(stage):
            _learn(learner, *waiting.take(t))
            if t <= refresh.until_s:
                served = learner.w.copy() if refresh.every_s > 60 else learner.w
        start = end
    return Played(slates)


def _block_end(stage: Stage, start: int, t: float) -> float:
    """No more than so many requests at once, for the sake of memory."""
    last = start + 20_000
    return min(t, float(stage.t[last])) if last < len(stage) else t


class Waiting:
    """Examples that are made but have not gone out yet."""

    def __init__(self, fields: int) -> None:
        self.when: Doubles = np.empty(0)
        self.rows: Integers = np.empty((0, fields), np.int64)
        self.kind: Integers = np.empty(0, np.int8)

    def add(self, when: Doubles, rows: Integers, kind: Integers) -> None:
        """Let more wait."""
        self.when = np.concatenate([self.when, when])
        self.rows = np.concatenate([self.rows, rows])
        self.kind = np.concatenate([self.kind, kind])

    def take(self, t: float) -> tuple[Integers, Integers]:
        """What has gone out by then, in order."""
        due = self.when <= t
        which = np.flatnonzero(due)
        which = which[np.argsort(self.when[which], kind="stable")]
        found = self.rows[which], self.kind[which]
        self.when, self.rows, self.kind = self.when[~due], self.rows[~due], self.kind[~due]
        return found


def _examples(
    stage: Stage, part: slice, slate: Integers, rule: LabelRule, lateness_s: float
) -> tuple[Doubles, Integers, Integers]:
    row, slot = np.indices(slate.shape).reshape(2, -1)
    column = slate.ravel()
    at = row + part.start
    p = stage.attraction[at, column] * stage.examination[slot]
    delay = np.where(stage.luck[at, column] < p, stage.delay[at, column], np.inf).astype(np.float64)
    out = emissions(rule, stage.t[at], delay)
    one = out.impression
    rows = np.concatenate([stage.rows[at[one], column[one]], BUCKETS + slot[one][:, None]], axis=1).astype(np.int64)
    return out.when + lateness_s * (out.kind == NEGATIVE), rows, out.kind


def _learn(learner: Ftrl, rows: Integers, kind: Integers) -> None:
    for at in range(0, len(rows), STEP):
        some, kinds = rows[at : at + STEP], kind[at : at + STEP]
        p = sigmoid(learner.logits(some))
        learner.learn(some, np.where(kinds == REVISION, np.float32(-1), p - (kinds != NEGATIVE)).astype(np.float32))


def _dice(stage: Stage) -> Floats:
    return stage.chance("explore", 2 * len(stage.examination))
