"""The figures of one run, and which of them are not what they should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from everloop.demo.freshness import Learned, Served, freshness_s, swaps
from everloop.demo.progress import gain
from everloop.figures import Figure, Report, figure, report
from everloop.replay.tally import Tally
from feedback.events import Ledger
from feedback.versions import ModelEvent

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Happened:
    """What a run left behind: the replayer's counts, what Kafka holds, the trainer's settled rows."""

    log: str
    """The log's name."""
    tally: Tally
    ledger: Ledger
    """Of all partitions together."""
    residual: int
    """Impressions that a partition's ledger has in no column or in two, over all partitions."""
    sample_residual: int
    """The same for emissions."""
    served: list[Served]
    learned: Learned
    events: list[ModelEvent]
    rows: Array
    """Settled rows, as `trainer.settled` has them."""
    restarts: dict[str, int]
    """How often each part was started again."""
    first_answer_s: float
    """From the command to the first answer, s of the wall; NaN without one."""
    duration_s: float
    """From the command to the last label, s of the wall."""
    begun_us: int
    """Wall clock when the replay began, µs."""
    parts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Changes of state by part: wall clock µs, and the state."""


@dataclass(frozen=True)
class Target:
    """What a figure should be."""

    name: str
    holds: Callable[[Report], bool]
    wanted: str
    fatal: bool = False
    """Whether the demo has failed without it: an impression or a request was lost."""


TARGETS: Final = (
    Target("residual", lambda found: found.value("residual") == 0, "0", fatal=True),
    Target("sample_residual", lambda found: found.value("sample_residual") == 0, "0", fatal=True),
    Target("failed_requests", lambda found: found.value("failed_requests") == 0, "0", fatal=True),
    Target("unsettled", lambda found: found.value("unsettled") == 0, "0"),
    Target("swaps", lambda found: found.value("swaps") >= 20, "at least 20"),
    Target("freshness_p50_s", lambda found: found.value("freshness_p50_s") <= 10, "at most 10 s"),
    Target("auc", lambda found: found.value("auc") > found.value("auc_baseline"), "above auc_baseline"),
    Target("auc_gain_low", lambda found: found.value("auc_gain_low") > 0, "above 0"),
)
"""The figures that a demo is judged by."""


def measure(happened: Happened) -> Report:
    """Compute every figure from what happened."""
    tally, ledger = happened.tally, happened.ledger
    fresh = freshness_s(happened.learned, happened.served)
    clicked = gain(happened.rows)
    answered = [each for each in happened.served if each.version]
    return report(
        "demo",
        [
            # An impression that was answered and is in no ledger is as lost as one that is in no column.
            _one("residual", happened.residual + abs(ledger.impressions - tally.impressions), "impressions"),
            _one("sample_residual", happened.sample_residual, "examples"),
            _one("unsettled", ledger.open + abs(_settled(ledger) - len(happened.rows)), "impressions"),
            _one("swaps", swaps(happened.served)),
            _one("failed_requests", tally.failed_requests),
            _one("freshness_p50_s", _quantile(fresh, 0.5), "s"),
            _one("freshness_p99_s", _quantile(fresh, 0.99), "s"),
            _one("auc", clicked.auc),
            _one("auc_baseline", clicked.baseline),
            _one("auc_gain_low", clicked.low),
            _one("auc_gain_high", clicked.high),
            _one("slates", tally.slates),
            _one("impressions", ledger.impressions),
            _one("outcomes", tally.outcomes),
            _one("late", ledger.late),
            _one("settled_positive", ledger.settled_positive),
            _one("settled_negative", ledger.settled_negative),
            _one("revisions", ledger.revisions),
            _one("answered_by_model", len(answered) / max(1, len(happened.served))),
            _one("answer_p50_ms", tally.latency_ms(0.5), "ms"),
            _one("answer_p99_ms", tally.latency_ms(0.99), "ms"),
            _one("first_answer_s", happened.first_answer_s, "s"),
            _one("restarts", sum(happened.restarts.values())),
            _one("duration_s", happened.duration_s, "s"),
        ],
    )


def missed(found: Report) -> list[tuple[Target, float]]:
    """The figures that are not what they should be, with their values."""
    return [(target, found.value(target.name)) for target in TARGETS if not target.holds(found)]


def _settled(ledger: Ledger) -> int:
    return ledger.settled_negative + ledger.settled_positive


def _one(name: str, value: float, unit: str = "") -> Figure:
    return figure(name, unit, [value])


def _quantile(values: Array, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan
