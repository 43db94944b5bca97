"""The benches: every figure that the documents quote comes from one of them, through `everloop bench NAME`.

A part measures itself (`streams.bench`, `trainer.bench`, …) and knows nothing of how figures are printed; what the whole
loop shows (freshness, swaps) is measured here. Each bench is a function of its options that returns a Report.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from everloop.figures import Figure, Report, figure
from feedback.errors import UsageError

Measured = Iterable[tuple[str, str, list[float]]]
"""What a part's own bench returns: name, unit and the value of each run, per figure."""


@dataclass(frozen=True)
class Options:
    """What every bench takes."""

    runs: int = 3
    """Runs of each measurement; the value is their median."""
    peers: bool = True
    """Whether to run the peers too (their environments are made the first time)."""
    log: str = ""
    """A log for the figures that need one (`train`, `poison`); `train` leaves them out without it."""
    mapping: str = ""
    """Its mapping file, or the name of a shipped one."""


BENCHES: Final[dict[str, str]] = {
    "join": "everloop.benches.join",
    "train": "everloop.benches.train",
    "serve": "everloop.benches.serve",
    "freshness": "everloop.benches.freshness",
    "freshness-tables": "everloop.benches.tables",
    "swap": "everloop.benches.swap",
    "k8s": "everloop.benches.k8s",
    "poison": "everloop.benches.poison",
}
"""Name of each bench and the module whose `run(options)` measures it."""


def bench(name: str, options: Options) -> Report:
    """Run one bench.

    Raises:
        UsageError: there is no bench of that name.
    """
    if name not in BENCHES:
        raise UsageError(f"bench = {name!r}: one of {', '.join(BENCHES)}")
    run: Callable[[Options], Report] = importlib.import_module(BENCHES[name]).run
    return run(options)


def figures(measured: Measured) -> list[Figure]:
    """Turn what a part measured into figures."""
    return [figure(name, unit, runs) for name, unit, runs in measured]
