"""The experiments' plots, as SVG files that come out the same from the same figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from everloop.experiments.spread import interval
from newsroom.keyed import Doubles

_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "everloop",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def bars(path: Path, names: Sequence[str], runs: Sequence[Sequence[float]], label: str) -> None:
    """One bar per name: the mean of its runs, with a 95 % interval over them."""
    with _axes(path) as axes:
        means = [float(np.mean(each)) for each in runs]
        halves = [(high - low) / 2 for low, high in map(interval, runs)]
        axes.barh(range(len(names)), means, xerr=halves, color="#1b6ca8", height=0.7)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(label)


def lines(path: Path, curves: Mapping[str, Doubles], x: str, y: str, at: Doubles | None = None) -> None:
    """One curve per name over a common axis: the given points, or 0, 1, 2 …"""
    with _axes(path) as axes:
        for name, values in curves.items():
            axes.plot(np.arange(len(values)) if at is None else at, values, label=name, linewidth=1.6)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend()


@contextmanager
def _axes(path: Path) -> Iterator[Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(7.5, 4), layout="constrained")
        yield drawn.add_subplot()
        drawn.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
