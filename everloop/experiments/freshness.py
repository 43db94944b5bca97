"""`everloop experiment freshness`: what it is worth that a model has learned from what happened a moment ago.

The same worlds, the same luck, and policies that differ in nothing but how they rank: at random; by popularity, refreshed at every
request; by one and the same model, served as it was after the first day, or refreshed daily, hourly, every minute, every second
(living versions). All models live through the first day alike, refreshed every minute; what is counted are the days after it.

A model learns from the clicks on its own slates and from the front page, which is the same for all and which no model chooses: what a
newsroom that reports it to the gateway has. Popularity has it too: it is by clicks per look on its own slates or by what is opened most
from the front page, whichever does better.

Two arms say what that is worth. `own_slates` is the living model without the front page. `told_all` learns also what the candidates that
were not shown would have brought, which nobody can know: what it leaves open is beyond the features.

The world is the fitted one, slates and retrieval included, with as many readers as the log: settings chosen for this question would
answer another. How long retrieval keeps its choice matters much to the answer (docs/newsroom.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from everloop.experiments import Options
from everloop.experiments.emission import LabelRule
from everloop.experiments.front import front_page
from everloop.experiments.plots import bars, lines
from everloop.experiments.policies import (
    Played,
    Refresh,
    model,
    most_read,
    noticed,
    oracle,
    popularity,
    uniform,
    unshown,
)
from everloop.experiments.spread import interval
from everloop.experiments.stage import Stage, stage
from everloop.figures import Figure, Report, figure, report
from feedback.errors import UsageError
from newsroom.articles import DAY
from newsroom.keyed import Doubles
from newsroom.settings import WorldSettings

SETTINGS: Final = WorldSettings(days=3.0)
HALF_LIVES_S: Final = (300.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0)
"""Of popularity: the best of them is compared."""
REFRESHES: Final = {
    "frozen": math.inf,
    "daily": DAY,
    "hourly": 3_600.0,
    "minutes": 60.0,
    "living": 1.0,
}
"""Seconds between two refreshes of the served model. With living versions a click counts after a quarter of a second, as `everloop bench
freshness` measures it; a second is what is granted here."""
RULE: Final = LabelRule(hold_s=0.0)
"""Labels as the join sends them by default."""


@dataclass(frozen=True)
class Outcome:
    """What one policy came to in one world, on the days that count."""

    click_rate: float
    """Clicks per impression, as they happened."""
    truth: float
    """Click probability per impression."""
    by_hour: Doubles
    """Expected clicks of each hour, from the beginning."""


def run(options: Options) -> Report:
    """Let every policy live through every world."""
    if options.seeds < 2:
        raise UsageError(f"--seeds {options.seeds}: 2 at least, for an interval over seeds")
    worlds = [play(seed, options.scale) for seed in range(1, options.seeds + 1)]
    if options.plots is not None:
        _plot(worlds, options)
    return report("experiment freshness", _figures(worlds))


def play(seed: int, scale: float = 1.0) -> dict[str, Outcome]:
    """All policies in one world, by name; of the half-lives of popularity the best."""
    readers = replace(SETTINGS.readers, visits_per_day=SETTINGS.readers.visits_per_day * scale)
    settings = replace(SETTINGS, readers=readers)
    here = stage(settings, seed)
    found = {"oracle": _outcome(here, oracle(here)), "random": _outcome(here, uniform(here))}
    popular = [_outcome(here, each) for each in popularity(here, HALF_LIVES_S)]
    front = front_page(settings, seed)
    popular += [_outcome(here, each) for each in most_read(here, front, HALF_LIVES_S)]
    found["popularity"] = max(popular, key=lambda each: each.truth)
    headlines = noticed(front, RULE)
    for name, every_s in REFRESHES.items():
        found[name] = _outcome(here, model(here, Refresh(every_s, warm_until_s=DAY), RULE, more=[headlines]))
    living = Refresh(REFRESHES["living"], warm_until_s=DAY)
    for name, more in (("own_slates", []), ("told_all", [headlines, unshown(RULE)])):
        found[name] = _outcome(here, model(here, living, RULE, more=more))
    return found


def _outcome(stage: Stage, played: Played) -> Outcome:
    truth, clicked, counts = played.truth(stage), played.clicked(stage), stage.t >= DAY
    hours = np.zeros(int(SETTINGS.days * 24))
    np.add.at(hours, (stage.t // 3600).astype(np.int64), truth.sum(axis=1))
    return Outcome(float(clicked[counts].mean()), float(truth[counts].mean()), hours)


def _figures(worlds: list[dict[str, Outcome]]) -> Iterator[Figure]:
    pairs = [(world["living"], world["popularity"]) for world in worlds]
    yield figure("lift_over_popularity", "", [a.click_rate / b.click_rate - 1 for a, b in pairs])
    yield figure("gap_to_oracle_closed", "", [_closed(world, "living") for world in worlds])
    for name in ("own_slates", "told_all"):
        yield figure(f"gap_closed_{name}", "", [_closed(world, name) for world in worlds])
    for name in ("popularity", "frozen", "daily", "hourly", "minutes"):
        gains = [world["living"].click_rate - world[name].click_rate for world in worlds]
        low, high = interval(gains)
        yield figure(f"gain_over_{name}", "", gains)
        yield figure(f"gain_over_{name}_low", "", [low])
        yield figure(f"gain_over_{name}_high", "", [high])
    for name in worlds[0]:
        yield figure(f"click_rate_{name}", "", [world[name].click_rate for world in worlds])
    for name in worlds[0]:
        yield figure(f"regret_{name}", "", [world["oracle"].truth - world[name].truth for world in worlds])


def _closed(world: dict[str, Outcome], name: str) -> float:
    """The share of the click probability between popularity and the oracle that a policy has won."""
    popular, best = world["popularity"].truth, world["oracle"].truth
    return (world[name].truth - popular) / (best - popular)


def _plot(worlds: list[dict[str, Outcome]], options: Options) -> None:
    assert options.plots is not None
    names = list(worlds[0])
    rates = [[world[name].click_rate for world in worlds] for name in names]
    bars(options.plots / "freshness-click-rate.svg", names, rates, "clicks per impression, days 2 and 3")
    regret = {
        name: np.mean([np.cumsum(world["oracle"].by_hour - world[name].by_hour) for world in worlds], axis=0)
        for name in names
        if name != "oracle"
    }
    lines(options.plots / "freshness-regret.svg", regret, "hour", "expected clicks lost against the oracle, summed")
