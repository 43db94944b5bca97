"""`everloop experiment labels`: which label rule and which loss come nearest to knowing every label at once.

All learn from the same slates, which were drawn at random in the fitted world, and are judged by what they would have said of each
impression just before it was shown, against its true click probability, with no time limit. What differs: how long a negative is held,
when a positive goes out, what a revision teaches; and two published delay models. `naive` sends negatives at once and teaches the click as
a second example; `oracle` is told each label the moment the slate is shown. `foreseen` is no rule either: each click when it comes, and a
negative, at once, where none will come. What it leaves open is the price of waiting for clicks, which no rule can avoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import numpy as np

from everloop.experiments import Options
from everloop.experiments.emission import Emissions, LabelRule, emissions
from everloop.experiments.ftrl import Floats, Ftrl, sigmoid
from everloop.experiments.losses import DelayedFeedback, ElapsedTime, FakeNegative, Loss, Plain, Reversal
from everloop.experiments.plots import bars
from everloop.experiments.policies import uniform
from everloop.experiments.progressive import log_loss
from everloop.experiments.stage import BUCKETS, stage
from everloop.figures import Figure, Report, figure, report
from feedback.errors import UsageError
from feedback.events import NEGATIVE, POSITIVE
from newsroom.articles import DAY
from newsroom.keyed import Doubles, Integers
from newsroom.settings import ArrivalSettings, WorldSettings
from newsroom.world import World

SETTINGS: Final = WorldSettings(days=1.0)
"""The fitted world, one day of it; the second half of the day counts."""
DELAYS_S: Final = {"short": 20.0, "long": 300.0}
"""Mean time from impression to click. `short` is the world's own."""
HOLDS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds that a negative is held, in mean delays; besides 0 and the whole window."""
LATENESS_S: Final = 10.0
"""How much later the join lets go what it holds."""
WINDOW_S: Final = 1_800.0
BLOCK: Final = 50
"""Impressions that are scored together, before any label that comes meanwhile is learned."""
ALPHA: Final = 0.8
"""Learning rate of all: the best for the oracle of 0.1, 0.3 and 0.8."""
CALIBRATED: Final = 0.01
BOUNDS: Final = ("oracle", "foreseen")
"""What is not in the running: both know what is to come."""
AGES_S: Final = {"first_hour": 3_600.0, "first_4_h": 14_400.0, "older": math.inf}
"""Ages of articles for which calibration is told apart: up to so many seconds."""


@dataclass(frozen=True)
class Arm:
    """One way to make labels and learn from them."""

    name: str
    rule: LabelRule
    loss: Callable[[], Loss]


@dataclass(frozen=True)
class Logged:
    """Impressions, in the order in which they were shown."""

    shown: Doubles
    delay: Doubles
    """Seconds to the click; inf: none ever."""
    truth: Doubles
    rows: Integers
    age: Doubles
    """Of the article, s."""


@dataclass(frozen=True)
class Judged:
    """What one arm came to."""

    loss: float
    """Expected log loss against the true probabilities, nats per impression."""
    calibration: float
    """Sum of predictions over sum of true probabilities."""
    by_age: dict[str, float]
    """The same by the article's age, by the names of AGES_S."""
    click_rate: float
    """Mean true probability."""


def run(options: Options) -> Report:
    """Let every arm learn from every world's slates, with short and with long delays."""
    if options.seeds < 2:
        raise UsageError(f"--seeds {options.seeds}: 2 at least, for an interval over seeds")
    found: dict[str, list[dict[str, Judged]]] = {name: [] for name in DELAYS_S}
    for seed in range(1, options.seeds + 1):
        for name, mean_s in DELAYS_S.items():
            log = logged(seed, mean_s, options.scale)
            found[name].append(bounds(log) | {arm.name: judge(log, arm) for arm in arms(mean_s)})
    if options.plots is not None:
        for name, worlds in found.items():
            _plot(name, worlds, options)
    return report("experiment labels", _figures(found))


def arms(mean_s: float) -> Iterator[Arm]:
    """The ways that are compared, for clicks that take so long on average."""
    at_once = LabelRule(hold_s=0.0, window_s=WINDOW_S)
    yield Arm("naive", at_once, Plain)
    yield Arm("hold_0_reversal", at_once, Reversal)
    yield Arm("hold_0_fnw", at_once, FakeNegative)
    positives: tuple[Literal["at_once", "at_close"], ...] = ("at_once", "at_close")
    for share in HOLDS:
        for when in positives:
            rule = LabelRule(hold_s=share * mean_s, positives=when, window_s=WINDOW_S)
            yield Arm(f"hold_{share:g}_{when}_reversal", rule, Reversal)
        close = LabelRule(hold_s=share * mean_s, positives="at_close", window_s=WINDOW_S)
        yield Arm(f"hold_{share:g}_at_close_plain", close, Plain)
        yield Arm(f"hold_{share:g}_at_once_es_dfm", replace(close, positives="at_once"), ElapsedTime)
        yield Arm(f"hold_{share:g}_at_close_dfm", close, partial(DelayedFeedback, close.hold_s))
    for when in positives:
        yield Arm(f"hold_window_{when}", LabelRule(hold_s=WINDOW_S, positives=when, window_s=WINDOW_S), Plain)


def logged(seed: int, mean_s: float, scale: float = 1.0) -> Logged:
    """Random slates of one world and what came of them."""
    readers = replace(SETTINGS.readers, visits_per_day=SETTINGS.readers.visits_per_day * scale)
    settings = replace(SETTINGS, readers=readers, arrival=ArrivalSettings(delay_s=mean_s))
    here = stage(settings, seed)
    played = uniform(here)
    truth, clicked = played.truth(here), played.clicked(here)
    delay = np.where(clicked, np.take_along_axis(here.delay, played.slates, axis=1), np.inf)
    rows = np.take_along_axis(here.rows, played.slates[:, :, None], axis=1).astype(np.int64)
    places = np.broadcast_to((BUCKETS + np.arange(truth.shape[1]))[None, :, None], (*truth.shape, 1))
    published = World(settings, seed).articles.published
    articles = np.take_along_axis(here.offered, played.slates, axis=1)
    return Logged(
        np.repeat(here.t, truth.shape[1]),
        delay.ravel().astype(np.float64),
        truth.ravel().astype(np.float64),
        np.concatenate([rows, places], axis=2).reshape(truth.size, -1),
        (here.t[:, None] - published[articles]).ravel(),
    )


def judge(log: Logged, arm: Arm) -> Judged:
    """Learn as the arm does, and compare with the truth what was said beforehand."""
    out = emissions(arm.rule, log.shown, log.delay, LATENESS_S)
    return _judged(log, _said(log, out, arm.loss()))


def bounds(log: Logged) -> dict[str, Judged]:
    """The same model, told what cannot be known: by the names of BOUNDS."""
    clicked = np.isfinite(log.delay)
    kind = np.where(clicked, POSITIVE, NEGATIVE).astype(np.int8)
    came = log.shown + np.where(clicked, log.delay, 0.0)
    order = np.argsort(came, kind="stable")
    told = (Emissions(log.shown, np.arange(len(order)), kind), Emissions(came[order], order, kind[order]))
    return {name: _judged(log, _said(log, out, Plain())) for name, out in zip(BOUNDS, told, strict=True)}


def _said(log: Logged, out: Emissions, loss: Loss) -> Floats:
    """Each impression's score just before it was shown (by blocks of so few that hardly a second passes within one)."""
    learner = Ftrl(int(log.rows[:, -1].max()) + 1, alpha=ALPHA)
    delays = np.where(np.isfinite(log.delay), log.delay, 0.0).astype(np.float32)
    starts = np.arange(0, len(log.shown), BLOCK)
    ends = np.append(log.shown[starts[1:]], np.inf)
    known = np.searchsorted(out.when, ends, side="left")
    scores, at = np.empty(len(log.shown), np.float32), 0
    for start, until in zip(starts.tolist(), known.tolist(), strict=True):
        part = slice(start, start + BLOCK)
        scores[part] = sigmoid(learner.logits(log.rows[part]))
        for first in range(at, until, BLOCK):
            some = slice(first, min(first + BLOCK, until))
            which = out.impression[some]
            p = sigmoid(learner.logits(log.rows[which]))
            learner.learn(log.rows[which], loss.gradient(p, out.kind[some], delays[which]))
        at = until
    return scores


def _judged(log: Logged, said: Floats) -> Judged:
    counts = log.shown >= SETTINGS.days * DAY / 2
    told, truth, age = said[counts], log.truth[counts], log.age[counts]
    sums = told.astype(np.float64)
    bins = np.searchsorted([limit for limit in AGES_S.values() if math.isfinite(limit)], age, side="right")
    by = {name: float(sums[bins == k].sum() / truth[bins == k].sum()) for k, name in enumerate(AGES_S)}
    return Judged(log_loss(told, truth), float(sums.sum() / truth.sum()), by, float(truth.mean()))


def _closed(world: dict[str, Judged], name: str) -> float:
    """The share of what separates naive from oracle that an arm has made good."""
    naive, best = world["naive"].loss, world["oracle"].loss
    return (naive - world[name].loss) / (naive - best)


def _figures(found: dict[str, list[dict[str, Judged]]]) -> Iterator[Figure]:
    short = found["short"]
    best = winner(short)
    hold_s = next(arm.rule.hold_s for arm in arms(DELAYS_S["short"]) if arm.name == best)
    yield figure("calibration", "", [world[best].calibration for world in short])
    yield figure("gap_closed", "", [_closed(world, best) for world in short])
    yield figure("gap_closed_foreseen", "", [_closed(world, "foreseen") for world in short])
    yield figure("winner_hold_s", "s", [hold_s])
    yield figure("click_rate", "", [world["oracle"].click_rate for world in short])
    for delays, worlds in found.items():
        for name in worlds[0]:
            yield figure(f"{delays}_{name}_log_loss", "", [world[name].loss for world in worlds])
            yield figure(f"{delays}_{name}_gap_closed", "", [_closed(world, name) for world in worlds])
            yield figure(f"{delays}_{name}_calibration", "", [world[name].calibration for world in worlds])
            for age in AGES_S:
                yield figure(f"{delays}_{name}_calibration_{age}", "", [world[name].by_age[age] for world in worlds])


def winner(worlds: list[dict[str, Judged]]) -> str:
    """The arm with the lowest log loss on average, of those whose calibration is within CALIBRATED of 1; without any, of all."""
    names = [name for name in worlds[0] if name not in BOUNDS]
    good = [name for name in names if abs(np.median([w[name].calibration for w in worlds]) - 1) <= CALIBRATED]
    return min(good or names, key=lambda name: sum(world[name].loss for world in worlds))


def _plot(delays: str, worlds: list[dict[str, Judged]], options: Options) -> None:
    assert options.plots is not None
    names = [name for name in worlds[0] if name != "oracle"]
    closed = [[_closed(world, name) for world in worlds] for name in names]
    bars(
        options.plots / f"labels-{delays}-gap-closed.svg", names, closed, "share of (naive − oracle) log loss made good"
    )
