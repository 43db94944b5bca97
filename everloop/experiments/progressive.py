"""Progressive validation of logged slates: how well clicks are told apart by models that learn after they have answered.

The figures are those that are known of the real news log, computed in the same way: each item's running click rate, and FTRL on
hashed features and crosses, served fresh or from weights that are refreshed only every so many slates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from everloop.experiments.ftrl import Floats, Ftrl, Rows, logits, sigmoid
from newsroom import keyed
from newsroom.keyed import Doubles
from newsroom.log import Log

BUCKETS: Final = 1 << 20
PLAIN: Final = ("user", "item", "prev", "env", "dev", "os", "region", "ref", "age", "hour")
CROSSES: Final = tuple(f"{each}*item" for each in ("user", "prev", "region", "ref", "os", "hour"))
STEP: Final = 20
"""Slates in a step."""
ALPHA: Final = 0.4
HALF_LIFE_S: Final = 300.0
PRIOR: Final = 1.0
"""Impressions of the average rate with which an item begins."""
REFRESHES: Final = {"1 min": 200, "11 min": 2_000, "53 min": 10_000, "4.4 h": 50_000}
"""Slates between two refreshes of the served weights, by the time that it is on average."""


def hashed(log: Log, fields: Sequence[str] = PLAIN + CROSSES, *, buckets: int = BUCKETS) -> Rows:
    """The bucket of each feature and cross of each example, slate by slate: [slates × positions, fields]."""
    columns = dict(log.context) | {"hour": (log.t // 3600).astype(np.int64) % 24}
    shape = log.item.shape
    parts = {name: np.broadcast_to(column[:, None], shape) for name, column in columns.items()}
    parts |= {"item": log.item, "age": log.age}
    found = np.empty((log.item.size, len(fields)), np.int64)
    for k, name in enumerate(fields):
        bits = keyed.bits(k, name, *(parts[part] for part in name.split("*")))
        found[:, k] = (bits & np.uint64(buckets - 1)).astype(np.int64).ravel()
    return found


def item_rate(log: Log, *, half_life_s: float = HALF_LIFE_S) -> Floats:
    """Score every example by its item's click rate so far, decayed; [slates × positions]."""
    clicks: dict[int, float] = {}
    shown: dict[int, float] = {}
    last: dict[int, float] = {}
    scores = np.empty(log.item.shape, np.float32)
    mean = 1.0 / log.item.shape[1]
    for k, (t, items, ys) in enumerate(zip(log.t.tolist(), log.item.tolist(), log.y.tolist(), strict=True)):
        for j, item in enumerate(items):
            keep = 0.5 ** ((t - last.get(item, t)) / half_life_s)
            clicks[item] = clicks.get(item, 0.0) * keep
            shown[item] = shown.get(item, 0.0) * keep
            last[item] = t
            scores[k, j] = (clicks[item] + PRIOR * mean) / (shown[item] + PRIOR)
        for item, y in zip(items, ys, strict=True):
            clicks[item] += y
            shown[item] += 1.0
    return scores.ravel()


def scores(log: Log, rows: Rows, *, step: int = STEP, alpha: float = ALPHA) -> dict[str, Floats]:
    """Probabilities of each example by how fresh the weights were: `fresh`, the names of REFRESHES, `frozen` at half of the log."""
    width = log.item.shape[1]
    ys, model = log.y.ravel(), Ftrl(BUCKETS, alpha=alpha)
    found = {name: np.empty(len(ys), np.float32) for name in ("fresh", *REFRESHES, "frozen")}
    half = len(log) // 2
    for start in range(0, len(log), step):
        for name, every in (*REFRESHES.items(), ("frozen", half)):
            if start % every < step:
                part = slice(start * width, (start + every if name != "frozen" or start == 0 else len(log)) * width)
                for some in _pieces(part, len(ys)):
                    found[name][some] = sigmoid(logits(model.w, rows[some]))
        some = slice(start * width, (start + step) * width)
        found["fresh"][some] = score = sigmoid(model.logits(rows[some]))
        model.learn(rows[some], score - ys[some])
    return found


def _pieces(part: slice, end: int, size: int = 20_000) -> Iterator[slice]:
    for at in range(part.start, min(part.stop, end), size):
        yield slice(at, min(at + size, part.stop, end))


def auc(score: Floats, y: Floats) -> float:
    """The probability that a clicked example scores above one that was not; ties count half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = float(y.sum())
    return float((rank[y > 0].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


def log_loss(score: Floats, y: Floats | Doubles) -> float:
    """Mean log loss of labels, or of true probabilities, in nats."""
    p = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())
