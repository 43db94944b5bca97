"""What is said of the join for arrays of impressions is what the join does when it reads the same log second by second."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from everloop.experiments.emission import LabelRule, emissions
from feedback.codec import decode_output
from feedback.events import Outcome, Prediction, Sample, Tick
from newsroom.keyed import Doubles
from streams.records import Round
from tests.streams.world import JOIN, Row, log, machine, outcome, prediction, tick

LATENESS_S = 10.0
WINDOW_S = 60.0
COUNT = 120


@pytest.mark.parametrize("positives", ["at_once", "at_close"])
@pytest.mark.parametrize("hold_s", [0.0, 5.0, 20.0, WINDOW_S])
def test_the_join_emits_the_same_at_the_same_second(hold_s: float, positives: Literal["at_once", "at_close"]) -> None:
    random = np.random.default_rng(3)
    shown = np.sort(random.integers(0, 100, COUNT)).astype(np.float64)
    delay = np.where(random.random(COUNT) < 0.7, random.integers(1, 80, COUNT), np.inf)
    rule = LabelRule(hold_s=hold_s, positives=positives, window_s=WINDOW_S)
    said = emissions(rule, shown, delay, LATENESS_S)
    expected = zip(said.impression.tolist(), said.kind.tolist(), said.when.tolist(), strict=True)
    assert sorted(_joined(rule, shown, delay)) == sorted(expected)


def _joined(rule: LabelRule, shown: Doubles, delay: Doubles) -> list[tuple[int, int, float]]:
    """Impression, kind and second of everything that comes out; a slate is one impression."""
    settings = replace(
        JOIN, window_s=WINDOW_S, lateness_s=LATENESS_S, hold_s=rule.hold_s, positives=rule.positives, remember_s=120
    )
    join, found, read = machine(settings), [], [0, 0]

    def rows(events: list[Prediction | Outcome | Tick | bytes | None], topic: int) -> list[Row]:
        made = log(events, read[topic])
        read[topic] += len(made)
        return made

    for now in range(300):
        # A clock that stands on a moment has not passed it.
        predicted = [prediction(str(i), now, ["a"]) for i in np.flatnonzero(shown == now)]
        clicked = [outcome(str(i), now) for i in np.flatnonzero(shown + delay == now)]
        out: Round = join.feed(rows([*predicted, tick(now + 0.5)], 0), rows([*clicked, tick(now + 0.5)], 1))
        join.flush()
        for _, value in out.samples:
            sample = decode_output(value)
            assert isinstance(sample, Sample)
            found += [(int(sample.request_id), emission, float(now)) for emission in sample.emissions]
    return found
