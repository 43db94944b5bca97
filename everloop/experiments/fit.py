"""`everloop experiment fit`: how near the world is to the real news log, by the figures that are known of it.

The log itself may not be passed on; what is stated here are facts measured on it (docs/newsroom.md). With `--log PATH` the same code
measures the log too, for whoever has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from everloop.experiments import Options
from everloop.experiments.progressive import auc, hashed, item_rate, scores
from everloop.figures import Figure, Report, figure, report
from feedback.errors import UsageError
from newsroom.log import Log, logged
from newsroom.settings import WorldSettings
from newsroom.world import World

AUCS: Final = {
    "item_rate_auc": 0.6043,
    "item_rate_auc_second_half": 0.5811,
    "ftrl_auc": 0.8014,
    "ftrl_auc_second_half": 0.7924,
}
"""Of the real log: each item's click rate with a half-life of 300 s, and FTRL on hashed crosses."""

REFRESHED: Final = {
    "refreshed_1_min_auc": 0.7918,
    "refreshed_11_min_auc": 0.7863,
    "refreshed_53_min_auc": 0.7599,
    "refreshed_4_4_h_auc": 0.6696,
    "frozen_auc": 0.5586,
}
"""Of the real log, second half: FTRL served from weights that are refreshed so often."""


def run(options: Options) -> Report:
    """Measure the worlds' logs, and the real one if it is there."""
    made = [measure(world_log(seed)) for seed in range(1, options.seeds + 1)]
    names = list(made[0])
    middle = {name: float(np.median([each[name] for each in made])) for name in names}
    found = [
        figure("fit_auc_error", "", [max(abs(middle[name] - fact) for name, fact in AUCS.items())]),
        figure("fit_refresh_error", "", [max(abs(middle[name] - fact) for name, fact in REFRESHED.items())]),
        *(figure(name, "", [each[name] for each in made]) for name in names),
    ]
    if options.log is not None:
        found += _real(options.log)
    return report("experiment fit", found)


def world_log(seed: int, settings: WorldSettings | None = None) -> Log:
    """What the readers of a world read by themselves, as slates."""
    world = World(settings or WorldSettings(), seed)
    return logged(world.visits, world.articles)


def measure(log: Log) -> dict[str, float]:
    """The figures of one log, by the names of AUCS and REFRESHED."""
    y, half = log.y.ravel(), len(log) // 2 * log.item.shape[1]
    rate, by = item_rate(log), scores(log, hashed(log))
    first = {
        "item_rate_auc": auc(rate, y),
        "item_rate_auc_second_half": auc(rate[half:], y[half:]),
        "ftrl_auc": auc(by["fresh"], y),
        "ftrl_auc_second_half": auc(by["fresh"][half:], y[half:]),
    }
    stale = [score for name, score in by.items() if name != "fresh"]
    return first | {name: auc(score[half:], y[half:]) for name, score in zip(REFRESHED, stale, strict=True)}


def _real(path: Path) -> list[Figure]:
    found = measure(read(path))
    return [figure(f"log_{name}", "", [value]) for name, value in found.items()]


def read(path: Path) -> Log:
    """A news log of slates: columns t, slate, user, item, prev, env, dev, os, region, ref, age, y; all slates of one size.

    Raises:
        UsageError: there is no such file, or it is not such a log.
    """
    import pyarrow.parquet as parquet

    names = ("t", "slate", "user", "item", "prev", "env", "dev", "os", "region", "ref", "age", "y")
    try:
        table = parquet.read_table(path, columns=list(names))
    except (OSError, ValueError) as error:
        raise UsageError(f"--log {path}: {error}") from error
    columns = {name: table[name].to_numpy() for name in table.column_names}
    if missing := [name for name in names if name not in columns]:
        raise UsageError(f"--log {path}: no column {', '.join(missing)}; needed are {', '.join(names)}")
    sizes = set(np.bincount(columns["slate"]).tolist()) if table.num_rows else set()
    if len(sizes) != 1:
        raise UsageError(f"--log {path}: slates of {len(sizes)} different sizes: all must have the same")
    by = {name: column.reshape(-1, min(sizes)) for name, column in columns.items()}
    return Log(
        t=by["t"][:, 0].astype(np.float64),
        item=by["item"].astype(np.int64),
        y=by["y"].astype(np.float32),
        context={
            name: by[name][:, 0].astype(np.int64) for name in ("user", "prev", "env", "dev", "os", "region", "ref")
        },
        age=by["age"].astype(np.int64),
    )
