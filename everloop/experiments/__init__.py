"""The experiments: what only a world with known truth can answer, through `everloop experiment NAME`.

Each is a module with `run(options)` that returns a Report, whose `bench` is `experiment NAME`. The world is newsroom/'s; what
is tried in it (label rules, losses, how often a model is refreshed, estimators) is the product's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from everloop.figures import Report
from feedback.errors import UsageError


@dataclass(frozen=True)
class Options:
    """What every experiment takes; each uses what it needs."""

    seeds: int = 5
    """Worlds of the same kind, with seeds 1, 2, …; the value of a figure is the median over them."""
    scale: float = 1.0
    """Readers per second relative to the experiment's own: below 1 it is quicker and says less."""
    log: Path | None = None
    """A real log to measure in the same way (`fit`)."""
    plots: Path | None = None
    """Folder for the plots; none: no plots."""


EXPERIMENTS: Final[dict[str, str]] = {
    "world": "everloop.experiments.world",
    "fit": "everloop.experiments.fit",
    "freshness": "everloop.experiments.freshness",
    "labels": "everloop.experiments.labels",
    "evaluation": "everloop.experiments.evaluation",
}
"""Name of each experiment and the module whose `run(options)` carries it out."""


def experiment(name: str, options: Options) -> Report:
    """Run one experiment.

    Raises:
        UsageError: there is no experiment of that name, or an option does not fit it.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"experiment = {name!r}: one of {', '.join(EXPERIMENTS)}")
    if options.scale <= 0:
        raise UsageError(f"--scale {options.scale:g}: above 0")
    run: Callable[[Options], Report] = importlib.import_module(EXPERIMENTS[name]).run
    return run(options)
