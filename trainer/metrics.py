"""Progressive metrics: total, over a sliding window of event time, and by slice; the model's, the served scores', the baseline's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from trainer.settled import ROW
from trainer.tally import Tally

Array = NDArray[Any]

_COLUMNS = ("score", "served", "baseline")
_PIECES = 12
_FINE, _COARSE = 4096, 1024
_POSITIONS = (("position_1", 1), ("position_2_3", 3), ("position_4_10", 10), ("position_11_up", 1 << 30))
"""ELSEWHERE is in none of these."""
_AGES = (("age_below_1h", 3600), ("age_below_1d", 86_400), ("age_below_7d", 7 * 86_400), ("age_7d_up", 1 << 60))
_POLICIES = 16


class Metrics:
    """Folds settled rows into tallies."""

    def __init__(self, *, window_s: float) -> None:
        self._piece = max(1, to_us(window_s) // _PIECES)
        self.total = {name: Tally(_FINE) for name in _COLUMNS}
        self._window: dict[int, dict[str, Tally]] = {}
        self._slices: dict[str, dict[str, Tally]] = {}
        self.newest = 0
        """Greatest event time of a settled row, µs."""

    def add(self, rows: Array, policies: Array, ages: Array) -> None:
        """Fold rows (dtype ROW), the policy of each (object[n]), and each item's age in seconds."""
        if not len(rows):
            return
        for name, tally in self.total.items():
            _add(tally, rows, name)
        self.newest = max(self.newest, int(rows["time"].max()))
        self._add_window(rows)
        self._add_slices(rows, policies, ages)

    def figures(self) -> dict[str, dict[str, float]]:
        """Figures of `total` and `window`, each with `auc_served` and the baseline's beside it."""
        window = {name: Tally(_COARSE) for name in _COLUMNS}
        for piece in self._window.values():
            for name, tally in piece.items():
                window[name].merge(tally)
        return {"total": _beside(self.total), "window": _beside(window)}

    def slices(self) -> dict[str, dict[str, float]]:
        """Figures by slice, with the baseline's beside them."""
        return {name: _beside(tallies) for name, tallies in sorted(self._slices.items())}

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [
            self.newest,
            _packed(self.total),
            {str(at): _packed(piece) for at, piece in self._window.items()},
            {name: _packed(piece) for name, piece in self._slices.items()},
        ]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self.newest = state[0]
        self.total = _unpacked(state[1])
        self._window = {int(at): _unpacked(piece) for at, piece in state[2].items()}
        self._slices = {name: _unpacked(piece) for name, piece in state[3].items()}

    def _add_window(self, rows: Array) -> None:
        places = rows["time"] // self._piece
        oldest = self.newest // self._piece - _PIECES + 1
        for place in np.unique(places[places >= oldest]).tolist():
            piece = self._window.setdefault(place, {name: Tally(_COARSE) for name in _COLUMNS})
            for name, tally in piece.items():
                _add(tally, rows[places == place], name)
        for place in [place for place in self._window if place < oldest]:
            del self._window[place]

    def _add_slices(self, rows: Array, policies: Array, ages: Array) -> None:
        self._slice("reader_known", rows[rows["known"]])
        self._slice("reader_new", rows[~rows["known"]])
        self._bands(_POSITIONS, rows, rows["position"] + 1)
        below = -1
        for name, end in _AGES:
            self._slice(name, rows[(ages > below) & (ages < end)])
            below = end - 1
        for policy in sorted(set(policies.tolist())):
            known = f"policy_{policy or 'none'}"
            full = sum(name.startswith("policy_") for name in self._slices) >= _POLICIES
            self._slice(known if known in self._slices or not full else "policy_others", rows[policies == policy])

    def _bands(self, bands: tuple[tuple[str, int], ...], rows: Array, values: Array) -> None:
        below = 0
        for name, last in bands:
            self._slice(name, rows[(values > below) & (values <= last)])
            below = last

    def _slice(self, name: str, rows: Array) -> None:
        if len(rows):
            tallies = self._slices.setdefault(name, {column: Tally(_COARSE) for column in ("score", "baseline")})
            for column, tally in tallies.items():
                _add(tally, rows, column)


def _add(tally: Tally, rows: Array, column: str) -> None:
    scores, labels = rows[column], rows["label"]
    if column == "served":
        there = ~np.isnan(scores)
        scores, labels = scores[there], labels[there]
    tally.add(scores, labels)


def _beside(tallies: dict[str, Tally]) -> dict[str, float]:
    found = dict(tallies["score"].figures())
    for column, suffix in (("served", "served"), ("baseline", "baseline")):
        if column in tallies:
            other = tallies[column].figures()
            found |= {f"{name}_{suffix}": value for name, value in other.items() if name not in ("rows", "click_rate")}
            if column == "served" and other:
                found["rows_served"] = other["rows"]
    return found


def _packed(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {name: tally.state() for name, tally in tallies.items()}


def _unpacked(state: dict[str, Any]) -> dict[str, Tally]:
    return {name: Tally.restored(each) for name, each in state.items()}


assert set(_COLUMNS) <= set(ROW.names or ())
