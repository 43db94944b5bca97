"""Quantiles of the parts' histograms, and the rows that the peers get."""

from __future__ import annotations

import math

import pytest

from everloop.benches import Options, bench
from everloop.benches.stages import quantile, quantiles
from everloop.benches.train import make_rows, user_item
from everloop.figures import figure, report
from everloop.tables import number, print_report
from feedback.errors import UsageError


def test_a_quantile_is_linear_inside_its_bucket() -> None:
    assert quantile({0.1: 0, 0.2: 10, math.inf: 10}, 0.5) == pytest.approx(0.15)
    assert quantile({0.1: 4, 0.2: 4, math.inf: 4}, 0.5) == pytest.approx(0.05)


def test_what_lies_beyond_the_last_bound_counts_as_that_bound() -> None:
    assert quantile({0.1: 1, math.inf: 10}, 0.99) == 0.1


def test_a_histogram_that_saw_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile({0.1: 0, math.inf: 0}, 0.5))
    assert quantiles({"joined": {0.1: 5.0, math.inf: 5.0}}, {"joined": {0.1: 5.0, math.inf: 5.0}}) == {}


def test_only_what_came_between_two_readings_counts() -> None:
    before = {"joined": {0.1: 10.0, 0.2: 10.0, math.inf: 10.0}}
    after = {"joined": {0.1: 10.0, 0.2: 20.0, math.inf: 20.0}}
    assert quantiles(after, before)["joined"][0] == pytest.approx(0.15)


def test_an_unknown_bench_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="join, train, serve"):
        bench("speed", Options())


def test_the_learner_takes_the_rows_that_the_peers_take() -> None:
    rows = make_rows(20_000, seed=2)
    assert {y for y, _, _ in rows} == {0, 1}
    assert user_item(rows) > 0


def test_a_report_is_the_median_of_its_runs_and_prints_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    found = report("made", [figure("speed", "1/s", [3.0, 1.0, 2.0])])
    assert found.value("speed") == 2.0
    print_report(found)
    assert "3 1 2" in capsys.readouterr().out
    assert number(1234567.0) == "1,234,567"
    assert number(0.123456) == "0.1235"
