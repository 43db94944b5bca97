"""Whether every number of a delta is finite: looked at before it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

_HEAD = 6


def not_finite(learner: Any, value: bytes) -> int:
    """Count the floats of a delta, as `trainer.delta` lays them out, that are not finite; 0 for a learner without tables."""
    plan = getattr(learner, "plan", None)
    if plan is None:
        return 0
    words = np.frombuffer(value, np.int32)
    tables = plan.tables
    counts = words[_HEAD : _HEAD + 3 * len(tables)].reshape(-1, 3)
    at, bad = _HEAD + 3 * len(tables), 0
    for table, (removed, rows, admitted) in zip(tables, counts.tolist(), strict=True):
        at += 2 * removed + rows
        bad += _bad(words[at : at + rows * table.served])
        at += rows * table.served + 3 * admitted
    return bad + _bad(words[at : at + int(words[_HEAD - 1])])


def _bad(words: Any) -> int:
    return int(np.count_nonzero(~np.isfinite(words.view(np.float32))))
