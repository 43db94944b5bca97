"""The policies that are tried on a stage: each shows slates, and learns (or not) from the clicks on them, and from what else it is told of.

All but the oracle explore alike: each slot is given to any candidate with probability EXPLORE. What a policy knows at a request
is what had arrived by then.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from everloop.experiments.emission import LabelRule, emissions
from everloop.experiments.front import FrontPage
from everloop.experiments.ftrl import Ftrl, logits, sigmoid
from everloop.experiments.stage import BUCKETS, Stage
from feedback.events import NEGATIVE, REVISION
from newsroom.keyed import Doubles, Floats, Integers

EXPLORE: Final = 0.02
PRIOR: Final = 10.0
"""Looks with which an article's click rate begins at the average, for popularity."""
STEP: Final = 128
"""Examples in a step of the learner at most."""
ALPHA: Final = 2.0
"""Learning rate: large, since what is worth knowing of a pair of articles is large and soon gone."""
WARM_S: Final = 60.0
_BLOCK: Final = 20_000


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


def popularity(stage: Stage, half_lives_s: Sequence[float]) -> list[Played]:
    """Each article's clicks over looks, both decayed, known up to the very request; one policy per half-life, each on its own slates.

    A look counts as much as its position is looked at, so that a lower place does not make an article look worse.
    """
    dice, table = _dice(stage), _Rates(stage, half_lives_s)
    slates = np.empty((len(half_lives_s), len(stage), len(stage.examination)), np.int64)
    exploring: list[bool] = np.any(dice[:, : len(stage.examination)] < EXPLORE, axis=1).tolist()
    for k, t in enumerate(stage.t.tolist()):
        known = table.rates(t, stage.offered[k])
        if exploring[k]:
            slate = explored(known, np.repeat(dice[k : k + 1], len(known), axis=0), slates.shape[2])
        else:
            slate = ranked(known, slates.shape[2])
        slates[:, k] = slate
        table.shown(t, k, slate)
    return [Played(each) for each in slates]


def most_read(stage: Stage, front: FrontPage, half_lives_s: Sequence[float]) -> list[Played]:
    """How often each article was opened from the front page lately, known at once; one policy per half-life."""
    dice, decay = _dice(stage), -math.log(2) / np.array(half_lives_s)[:, None]
    opened, last = (np.zeros((len(half_lives_s), int(max(stage.offered.max(), front.article.max())) + 1)) for _ in "ab")
    slates = np.empty((len(half_lives_s), len(stage), len(stage.examination)), np.int64)
    for k, (t, article) in enumerate(zip(stage.t.tolist(), front.article.tolist(), strict=True)):
        offered = stage.offered[k]
        known = opened[:, offered] * np.exp(decay * (t - last[:, offered]))
        slates[:, k] = explored(known, np.repeat(dice[k : k + 1], len(known), axis=0), slates.shape[2])
        opened[:, article] = opened[:, article] * np.exp(decay[:, 0] * (t - last[:, article])) + 1.0
        last[:, article] = t
    return [Played(each) for each in slates]


class _Rates:
    """Decayed clicks and looks per half-life and article, brought up to date when they are asked for."""

    def __init__(self, stage: Stage, half_lives_s: Sequence[float]) -> None:
        self.stage = stage
        shape = (len(half_lives_s), int(stage.offered.max()) + 1)
        self.decay = -math.log(2) / np.array(half_lives_s)[:, None]
        self.clicks, self.looks, self.last = (np.zeros(shape) for _ in range(3))
        self.which = np.arange(shape[0])[:, None]
        self.total_clicks, self.total_looks = np.ones(shape[0]), np.full(shape[0], 10.0)
        self.seen = float(stage.examination.sum())
        self.coming: list[tuple[float, int, int]] = []

    def rates(self, t: float, offered: Integers) -> Floats:
        """Click rate of each article by each half-life, as known now; [half-lives, articles]."""
        while self.coming and self.coming[0][0] <= t:
            self._clicked(*heapq.heappop(self.coming))
        keep = np.exp(self.decay * (t - self.last[:, offered]))
        prior = PRIOR * self.total_clicks / self.total_looks
        found: Floats = (self.clicks[:, offered] * keep + prior[:, None]) / (self.looks[:, offered] * keep + PRIOR)
        return found

    def shown(self, t: float, k: int, slates: Integers) -> None:
        """Each policy has shown its slate for request `k`: count the looks, and let the clicks come when they come."""
        stage, articles = self.stage, self.stage.offered[k, slates]
        at = (self.which, articles)
        keep = np.exp(self.decay * (t - self.last[at]))
        self.clicks[at] *= keep
        self.looks[at] = self.looks[at] * keep + stage.examination
        self.last[at] = t
        self.total_looks += self.seen
        hit = stage.luck[k, slates] < stage.attraction[k, slates] * stage.examination
        for policy, slot in np.argwhere(hit).tolist():
            heapq.heappush(
                self.coming, (t + float(stage.delay[k, slates[policy, slot]]), policy, int(articles[policy, slot]))
            )

    def _clicked(self, at: float, policy: int, article: int) -> None:
        last = self.last[policy, article]
        # What was counted since the click has decayed it already; otherwise the click is what is newest.
        self.clicks[policy, article] += math.exp(float(self.decay[policy, 0]) * max(last - at, 0.0))
        if at > last:
            keep = math.exp(float(self.decay[policy, 0]) * (at - last))
            self.clicks[policy, article] = (self.clicks[policy, article] - 1.0) * keep + 1.0
            self.looks[policy, article] *= keep
            self.last[policy, article] = at
        self.total_clicks[policy] += 1.0


@dataclass(frozen=True)
class Refresh:
    """How often the served weights are brought up to the learner's."""

    every_s: float
    """Seconds between two refreshes; inf: none comes any more."""
    warm_until_s: float = 0.0
    """Before this all are alike: refreshed every WARM_S."""

    def after(self, t: float) -> float:
        """The next refresh after a time."""
        every = WARM_S if t < self.warm_until_s else self.every_s
        found = math.inf if math.isinf(every) else math.floor(t / every + 1) * every
        return min(found, self.warm_until_s) if t < self.warm_until_s else found


Examples = tuple[Doubles, Integers, Integers]
"""When each goes out, its weights, its kind."""
More = Callable[[Stage, slice, Integers], Examples]
"""What else a model is told while it shows these slates to these requests. Its place is one of those behind the positions."""
ELSEWHERE: Final = 0
"""The place of slates that something else has chosen: how often those are clicked is theirs."""
LEFT: Final = 1
"""The place of candidates that were not shown."""


def model(
    stage: Stage,
    refresh: Refresh,
    rule: LabelRule,
    *,
    more: Sequence[More] = (),
    lateness_s: float = 10.0,
    alpha: float = ALPHA,
) -> Played:
    """A linear model that learns from what its own slates brought, as the join emits it, and is served refreshed now and then.

    `more`: what it learns from besides; `lateness_s`: as of `emissions`.
    """
    positions, dice = len(stage.examination), _dice(stage)
    fields = stage.rows.shape[2]
    learner, waiting = Ftrl(BUCKETS + positions + 2, alpha=alpha), Waiting(fields + 1)
    slates = np.empty((len(stage), positions), np.int64)
    start = 0
    while start < len(stage):
        due = refresh.after(float(stage.t[start]))
        end = min(int(np.searchsorted(stage.t, due)), start + _BLOCK)
        part = slice(start, end)
        scores = logits(learner.w, stage.rows[part].reshape(-1, fields)).reshape(end - start, -1)
        slates[part] = slate = explored(scores, dice[part], positions)
        waiting.add(*_examples(stage, part, slate, rule, lateness_s))
        for tell in more:
            waiting.add(*tell(stage, part, slate))
        # Nobody sees what is learned between two refreshes, so all of it is learned when one is due.
        if end < len(stage) and stage.t[end] >= due:
            _learn(learner, *waiting.take(due))
        start = end
    return Played(slates)


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


def noticed(front: FrontPage, rule: LabelRule, lateness_s: float = 10.0) -> More:
    """Tell it also what readers noticed on the front page and opened there."""

    def told(stage: Stage, part: slice, slate: Integers) -> Examples:
        until = float(stage.t[part.stop]) if part.stop < len(stage) else math.inf
        some = slice(*np.searchsorted(front.t, (float(stage.t[part.start]), until)).tolist())
        out = emissions(rule, front.t[some], front.delay[some], lateness_s)
        return out.when, _placed(front.rows[some][out.impression], len(stage.examination) + ELSEWHERE), out.kind

    return told


def unshown(rule: LabelRule) -> More:
    """Tell it also what the candidates that it did not show would have brought, had they been looked at: no policy can know that."""

    def told(stage: Stage, part: slice, slate: Integers) -> Examples:
        left = np.ones(stage.offered[part].shape, bool)
        np.put_along_axis(left, slate, False, axis=1)
        row, column = np.nonzero(left)
        at = row + part.start
        clicked = stage.luck[at, column] < stage.attraction[at, column]
        out = emissions(rule, stage.t[at], np.where(clicked, stage.delay[at, column], np.inf).astype(np.float64))
        rows = stage.rows[at, column][out.impression]
        return out.when, _placed(rows, len(stage.examination) + LEFT), out.kind

    return told


def _placed(rows: NDArray[np.int32], place: int | Integers) -> Integers:
    placed: Integers = np.concatenate([rows, np.broadcast_to(np.int64(BUCKETS) + place, len(rows))[:, None]], axis=1)
    return placed


def _examples(stage: Stage, part: slice, slate: Integers, rule: LabelRule, lateness_s: float) -> Examples:
    row, slot = np.indices(slate.shape).reshape(2, -1)
    column = slate.ravel()
    at = row + part.start
    p = stage.attraction[at, column] * stage.examination[slot]
    delay = np.where(stage.luck[at, column] < p, stage.delay[at, column], np.inf).astype(np.float64)
    out = emissions(rule, stage.t[at], delay, lateness_s)
    one = out.impression
    return out.when, _placed(stage.rows[at[one], column[one]], slot[one]), out.kind


def _learn(learner: Ftrl, rows: Integers, kind: Integers) -> None:
    for at in range(0, len(rows), STEP):
        some, kinds = rows[at : at + STEP], kind[at : at + STEP]
        p = sigmoid(learner.logits(some))
        learner.learn(some, np.where(kinds == REVISION, np.float32(-1), p - (kinds != NEGATIVE)).astype(np.float32))


def _dice(stage: Stage) -> Floats:
    return stage.chance("explore", 2 * len(stage.examination))
