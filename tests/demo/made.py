"""A run that was never run: what one would have left behind, made by hand."""

from __future__ import annotations

import numpy as np

from everloop.demo.freshness import Learned, Served
from everloop.demo.measure import Happened
from everloop.replay.tally import Tally
from feedback.clock import SECOND
from feedback.events import Ledger
from feedback.versions import ModelEvent
from trainer.settled import ROW

BEGIN = 1_700_000_000 * SECOND


def settled_rows(count: int, *, good: bool = True) -> np.ndarray:
    """Rows whose score tells clicks apart (or, not `good`, tells nothing), with a baseline that tells nothing."""
    random = np.random.default_rng(3)
    rows = np.zeros(count, ROW)
    rows["label"] = random.random(count) < 0.3
    rows["user"] = random.integers(0, 40, count)
    noise = random.random(count)
    rows["score"] = np.clip(0.3 * rows["label"] * good + 0.6 * noise, 0.01, 0.99)
    rows["baseline"] = random.random(count)
    rows["served"] = np.nan
    return rows


def happened(*, versions: int = 25, rows: int = 2_000, good: bool = True, **more: object) -> Happened:
    """A run with an answer every 100 ms, a version every second and an outcome per version."""
    served, learned = [], Learned()
    for number in range(versions * 10):
        version = number // 10 + 1
        served.append(Served(BEGIN + number * SECOND // 10, version, 1, version * 5))
    for version in range(2, versions + 1):
        learned.add(epoch=1, sequence=version * 5, sent_times=[BEGIN + (version - 2) * SECOND])
    tally = Tally(slates=len(served), impressions=rows, requests=len(served), outcomes=7, latencies_s=[0.01] * 9)
    found = settled_rows(rows, good=good)
    positive = int(found["label"].sum())
    ledger = Ledger(impressions=rows, settled_positive=positive, settled_negative=rows - positive)
    event = ModelEvent(model="news", line="l", version=2, event="exported", time=BEGIN + SECOND)
    values = {
        "log": "made",
        "tally": tally,
        "ledger": ledger,
        "residual": 0,
        "sample_residual": 0,
        "served": served,
        "learned": learned,
        "events": [event],
        "rows": found,
        "restarts": {"kafka": 1},
        "first_answer_s": 9.5,
        "duration_s": 70.0,
        "begun_us": BEGIN,
        "parts": {"kafka": [(BEGIN + 2 * SECOND, "restarting")]},
    }
    return Happened(**(values | more))  # type: ignore[arg-type]
