from __future__ import annotations

import math

import numpy as np
import pytest

from everloop.demo.freshness import Learned, Served, freshness_s, swaps
from everloop.demo.measure import measure, missed
from everloop.demo.progress import curve, now
from everloop.replay.tally import Tally
from feedback.events import Ledger
from tests.demo.made import happened, settled_rows


def test_freshness_ends_at_the_first_answer_that_has_reached_the_delta() -> None:
    learned = Learned()
    learned.add(epoch=1, sequence=5, sent_times=[1_000_000, 2_000_000])
    learned.add(epoch=2, sequence=1, sent_times=[3_000_000])
    learned.add(epoch=2, sequence=9, sent_times=[4_000_000])
    served = [
        Served(9_000_000, 3, 2, 1),
        Served(2_500_000, 1, 1, 4),
        Served(5_000_000, 2, 1, 5),
        Served(6_000_000, 0, 0, 0),
    ]
    # The last outcome is in no answer yet: it is left out, not counted as fresh.
    assert freshness_s(learned, served).tolist() == [4.0, 3.0, 6.0]


def test_freshness_of_nothing_is_nothing() -> None:
    assert not len(freshness_s(Learned(), []))
    assert not len(freshness_s(Learned(), [Served(1, 1, 1, 1)]))


def test_swaps_count_versions_that_answered_after_the_first() -> None:
    answers = [Served(at, version, 1, 1) for at, version in enumerate([0, 0, 1, 1, 2, 1, 0, 4])]
    assert swaps(answers) == 2
    assert swaps(answers[:2]) == 0


def test_a_good_run_meets_every_figure() -> None:
    found = measure(happened())
    assert missed(found) == []
    assert found.value("swaps") == 24
    assert found.value("freshness_p50_s") == pytest.approx(1.0)
    assert found.value("auc") > 0.7 > found.value("auc_baseline")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("residual", {"residual": 1}),
        ("residual", {"ledger": Ledger(impressions=1_999, settled_negative=1_999)}),
        ("sample_residual", {"sample_residual": 2}),
        ("failed_requests", {"tally": Tally(impressions=2_000, failed_requests=1)}),
        ("unsettled", {"ledger": Ledger(impressions=2_000, settled_negative=1_000, open=1_000)}),
        ("unsettled", {"ledger": Ledger(impressions=2_000, settled_negative=1_999), "residual": 0}),
        ("swaps", {"versions": 20}),
        ("freshness_p50_s", {"learned": Learned()}),
        ("auc_gain_low", {"good": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_run_that_misses_a_figure_says_so(name: str, change: dict[str, object]) -> None:
    found = measure(happened(**change))  # type: ignore[arg-type]
    assert name in [target.name for target, _ in missed(found)]


def test_a_run_without_answers_or_labels_has_figures_that_are_none() -> None:
    found = measure(happened(versions=0, rows=0))
    assert math.isnan(found.value("auc"))
    assert math.isnan(found.value("freshness_p50_s"))
    assert {"auc", "auc_gain_low", "freshness_p50_s", "swaps"} <= {target.name for target, _ in missed(found)}


def test_the_curve_ends_at_the_area_under_the_whole() -> None:
    rows = settled_rows(5_000)
    found = curve(rows, "score", points=7)
    clicked, other = rows["score"][rows["label"]], rows["score"][~rows["label"]]
    exact = float((clicked[:, None] > other[None, :]).mean())
    assert found.rows[-1] == 5_000
    assert found.total[-1] == pytest.approx(exact, abs=1e-3)
    assert now(rows, "score") == found.total[-1]
    assert found.recent[0] == found.total[0]
    assert np.isnan(now(rows, "served")), "no row has a served score"
