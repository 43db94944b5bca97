"""`everloop experiment world`: what the world is like, and how fast it is on one core."""

from __future__ import annotations

import time

import numpy as np

from everloop.experiments import Options
from everloop.figures import Report, figure, report
from newsroom.arrival import arrivals
from newsroom.settings import WorldSettings
from newsroom.world import World


def run(options: Options) -> Report:
    """Make one world per seed, with a random slate for every request and all that comes of it, and describe it."""
    made = [describe(seed) for seed in range(1, options.seeds + 1)]
    units = {"impressions_per_s": "1/s", "median_age_h": "h"}
    return report(
        "experiment world", [figure(name, units.get(name, ""), [each[name] for each in made]) for name in made[0]]
    )


def describe(seed: int, settings: WorldSettings | None = None) -> dict[str, float]:
    """The world's figures by name. Speed is CPU time from nothing to the last outcome: articles, readers, slates, truth, clicks."""
    start = time.process_time()
    world = World(settings or WorldSettings(), seed)
    visits = world.visits
    slates = world.candidates(visits)[:, : world.settings.slates.positions]
    truth = world.probabilities(visits, slates)
    clicked = world.clicks(visits, slates, truth=truth)
    outcomes = arrivals(world.settings.arrival, visits, slates, clicked)
    spent = time.process_time() - start
    read = np.sort(np.bincount(visits.article))[::-1]
    return {
        "impressions_per_s": slates.size / spent,
        "impressions": float(slates.size),
        "outcomes": float(len(outcomes)),
        "click_rate": float(clicked.mean()),
        "true_click_rate": float(truth.mean()),
        "readers": float(len(np.unique(visits.reader))),
        "articles_read": float((read > 0).sum()),
        "share_of_ten_best": float(read[:10].sum() / read.sum()),
        "share_of_hundred_best": float(read[:100].sum() / read.sum()),
        "median_age_h": float(np.median(visits.t - world.articles.published[visits.article]) / 3600),
        "first_pages": float((visits.previous < 0).mean()),
    }
