"""A table of cases: what the join does with each kind of outcome, prediction and clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from feedback.events import NEGATIVE, POSITIVE, REVISION, Ledger, Outcome, Prediction, Tick
from streams.settings import JoinSettings, LabelSettings
from tests.streams.world import JOIN, LABELS, Broker, log, outcome, prediction, tick

N, P, R = NEGATIVE, POSITIVE, REVISION

HELD = replace(JOIN, hold_s=20)
CLOSE = replace(JOIN, hold_s=100, positives="at_close")
VIEWED = LabelSettings(negatives="viewed")
DWELL = LabelSettings(min_dwell_s=10, weight="dwell", weight_unit=20)

Event = Prediction | Outcome | Tick | bytes | None
WHOLE = ("r:n", [N, N, N], "abc")


@dataclass(frozen=True)
class Case:
    """One situation: what stands in the two topics, and what must come of it."""

    name: str
    """What the case is about."""
    outcomes: list[Event]
    predictions: list[Event] = field(default_factory=lambda: [prediction("r", 50)])
    taught: list[tuple[str, list[int], str]] = field(default_factory=list)
    """Per sample, in order: id, emissions, items."""
    refused: list[str] = field(default_factory=list)
    """Reasons of the dead letters, in order."""
    ledger: dict[str, int] = field(default_factory=dict)
    """Columns that are not 0, besides the always present ones."""
    join: JoinSettings = JOIN
    labels: LabelSettings = LABELS
    end: float = 1_000
    """Where the last tick of both topics stands, s."""


CASES = [
    # Nothing happens: all are negatives, and settle so.
    Case("an outcome that never comes", [], taught=[WHOLE], ledger={"settled_negative": 3}),
    # hold 0: the negative is out, so the click takes it back.
    Case(
        "a click after its prediction is a revision",
        [outcome("r", 60, "b")],
        taught=[WHOLE, ("r:p1", [R], "b")],
        ledger={"settled_negative": 2, "settled_positive": 1},
    ),
    # Within the allowed skew a reader's clock may be before ours.
    Case(
        "a click a second before its prediction counts",
        [outcome("r", 49, "a")],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1},
    ),
    Case(
        "a click well before its prediction is refused",
        [outcome("r", 47, "a")],
        taught=[WHOLE],
        refused=["before_prediction"],
        ledger={"settled_negative": 3, "refused": 1},
    ),
    # The last moment of the window is inside, a moment later is not.
    Case(
        "the window's last moment counts",
        [outcome("r", 150, "a")],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1},
    ),
    Case(
        "a click after the window is late and not taught",
        [outcome("r", 150.001, "a")],
        taught=[WHOLE],
        ledger={"settled_negative": 3, "late": 1},
    ),
    # Same event_id: counted, ignored; another click on the same item turns nothing.
    Case(
        "the same outcome twice counts once",
        [outcome("r", 60, "a"), outcome("r", 60, "a"), outcome("r", 61, "a")],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1, "duplicate_outcomes": 1},
    ),
    Case(
        "an outcome for an item that was not shown is refused",
        [outcome("r", 60, "z")],
        taught=[WHOLE],
        refused=["item_not_on_slate"],
        ledger={"settled_negative": 3, "refused": 1},
    ),
    # By the outcomes' clock (170 − 10) the slate has settled (150), and is remembered until 210.
    Case(
        "a click in time that arrives after the slate has settled is a late revision",
        [tick(170), outcome("r", 140, "a")],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1, "late": 1, "late_revisions": 1},
    ),
    Case(
        "a click that arrives after the slate is forgotten is not taught",
        [tick(221), outcome("r", 140, "a")],
        taught=[WHOLE],
        ledger={"settled_negative": 3, "late": 1},
    ),
    # 31 s ahead of Kafka's time: it must not drag the watermark along.
    Case(
        "an outcome with a clock far in the future is refused",
        [outcome("r", 10_031, "a"), outcome("r", 60, "b")],
        taught=[WHOLE, ("r:p1", [R], "b")],
        refused=["future_event_time"],
        ledger={"settled_negative": 2, "settled_positive": 1, "refused": 1},
    ),
    Case(
        "a prediction with a clock far in the future is refused",
        [],
        [prediction("r", 10_031)],
        refused=["future_event_time"],
        ledger={"refused": 1},
    ),
    Case(
        "an outcome whose prediction never comes is an orphan",
        [outcome("q", 60, "a")],
        taught=[WHOLE],
        refused=["orphan"],
        ledger={"settled_negative": 3, "orphan": 1},
    ),
    # By the predictions' clock (120 − 10) the outcome had stopped waiting (50 + 50): whoever is read first.
    Case(
        "a prediction long after its outcome finds it gone",
        [outcome("r", 50, "a")],
        [tick(120), prediction("r", 50)],
        taught=[WHOLE],
        refused=["orphan"],
        ledger={"settled_negative": 3, "orphan": 1},
    ),
    Case(
        "the same prediction twice opens one slate",
        [outcome("r", 60, "a")],
        [prediction("r", 50), prediction("r", 50)],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1, "duplicate_predictions": 1},
    ),
    # The slate opens at the predictions' clock, 110, and settles at 210: a click at 155 is outside, one at 140 in time.
    Case(
        "a prediction behind the watermark opens, its window counted from there",
        [tick(165), outcome("r", 140, "a")],
        [tick(120), prediction("r", 50)],
        taught=[WHOLE, ("r:p0", [R], "a")],
        ledger={"settled_negative": 2, "settled_positive": 1},
    ),
    # 221 − 10 is later than 50 + 100 + 60: whether it was taught, nobody remembers.
    Case(
        "a prediction that is far too late is refused",
        [],
        [tick(221), prediction("r", 50)],
        refused=["too_late"],
        ledger={"refused": 1},
    ),
    Case(
        "what is no event is a dead letter",
        [b"{", b'{"type":"outcome"}', None],
        taught=[WHOLE],
        refused=["malformed", "malformed", "malformed"],
        ledger={"settled_negative": 3, "malformed": 3},
    ),
    Case(
        "an event in the other's topic is refused",
        [prediction("s", 50)],
        [prediction("r", 50), outcome("r", 60)],
        taught=[WHOLE],
        refused=["wrong_topic", "wrong_topic"],
        ledger={"settled_negative": 3, "refused": 2},
    ),
    # Without ticks of one topic nothing settles, however far the other is.
    Case("one silent topic holds the watermark", [], taught=[WHOLE], ledger={"open": 3}, end=100),
    # hold 20: a click before the negatives go out is a positive; one after is a revision.
    Case(
        "held: a click before the negatives is a positive at once",
        [outcome("r", 60, "b")],
        taught=[("r:p1", [P], "b"), ("r:n", [N, N], "ac")],
        ledger={"settled_negative": 2, "settled_positive": 1},
        join=HELD,
    ),
    Case(
        "held: a click after the negatives is a revision",
        [outcome("r", 80, "b")],
        taught=[WHOLE, ("r:p1", [R], "b")],
        ledger={"settled_negative": 2, "settled_positive": 1},
        join=HELD,
    ),
    Case(
        "held: read before the negatives are out, it still comes after them",
        [outcome("r", 72, "b"), outcome("r", 68, "a")],
        taught=[("r:p0", [P], "a"), ("r:n", [N, N], "bc"), ("r:p1", [R], "b")],
        ledger={"settled_negative": 1, "settled_positive": 2},
        join=HELD,
    ),
    Case(
        "at close: all is known and goes out together",
        [outcome("r", 60, "b")],
        taught=[("r:n", [N, P, N], "abc")],
        ledger={"settled_negative": 2, "settled_positive": 1},
        join=CLOSE,
    ),
    # Only what was seen is a negative; a click says that it was seen.
    Case(
        "viewed: an item that nobody saw is not taught",
        [outcome("r", 60, "a", "view"), outcome("r", 61, "b")],
        taught=[("r:v0", [N], "a"), ("r:v1", [N], "b"), ("r:p1", [R], "b")],
        ledger={"settled_negative": 2, "settled_positive": 1, "unviewed": 1},
        labels=VIEWED,
    ),
    Case(
        "viewed and held: what was seen goes out together",
        [outcome("r", 60, "a", "view"), outcome("r", 61, "b", "view"), outcome("r", 90, "b")],
        taught=[("r:n", [N, N], "ab"), ("r:p1", [R], "b")],
        ledger={"settled_negative": 2, "settled_positive": 1, "unviewed": 1},
        join=HELD,
        labels=VIEWED,
    ),
    Case(
        "a click without reading long enough stays a negative",
        [outcome("r", 60, "a"), outcome("r", 65, "a", "dwell", value=9.0)],
        taught=[WHOLE],
        ledger={"settled_negative": 3},
        labels=DWELL,
    ),
    Case(
        "click and reading turn the label once, in either order",
        [
            outcome("r", 60, "a"),
            outcome("r", 75, "a", "dwell", value=15.0),
            outcome("r", 76, "a", "dwell", value=60.0),
            outcome("r", 62, "b", "dwell", value=30.0),
            outcome("r", 61, "b"),
        ],
        taught=[WHOLE, ("r:p0", [R], "a"), ("r:p1", [R], "b")],
        ledger={"settled_negative": 1, "settled_positive": 2},
        labels=DWELL,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("order", ["predictions first", "outcomes first", "one by one"])
def test_the_join_treats_an_event_as_the_rules_say(case: Case, order: str) -> None:
    """Whichever of the two topics is read first, the samples are the same."""
    silent = case.end == 100
    broker = Broker(
        log([*case.predictions, tick(case.end)]),
        log([*case.outcomes, *([] if silent else [tick(case.end)])]),
        case.join,
        case.labels,
    )
    steps = {"predictions first": [(99, 0)], "outcomes first": [(0, len(case.outcomes))], "one by one": [(1, 1)] * 9}
    ledger = broker.run(steps[order], lambda _: True).ledger
    found = [(sample.sample_id, sample.emissions, "".join(sample.items)) for sample in broker.samples]
    assert sorted(found) == sorted(case.taught)
    assert [each[0] for each in found if each[0] in ("r:n", "r:p1")] == [
        each[0] for each in case.taught if each[0] in ("r:n", "r:p1")
    ]
    assert sorted(refusal.reason for refusal in broker.refusals) == sorted(case.refused)
    assert all(refusal.detail for refusal in broker.refusals)
    _ledger_says(ledger, case)


def _ledger_says(ledger: Ledger, case: Case) -> None:
    opened = any(sample for sample in case.taught) or "open" in case.ledger
    emissions = [emission for _, each, _ in case.taught for emission in each]
    expected: dict[str, Any] = {
        "slates": int(opened),
        "impressions": 3 * opened,
        "negatives": emissions.count(N),
        "positives": emissions.count(P),
        "revisions": emissions.count(R),
        "expected_emissions": len(emissions),
    } | case.ledger
    found = {name: getattr(ledger, name) for name in Ledger.__struct_fields__}
    assert {name: value for name, value in found.items() if value} == {n: v for n, v in expected.items() if v}


def test_a_positive_weighs_what_its_reading_says() -> None:
    events: list[Event] = [outcome("r", 60, "a"), outcome("r", 75, "a", "dwell", value=15.0), tick(1_000)]
    broker = Broker(log([prediction("r", 50), tick(1_000)]), log(events), JOIN, DWELL)
    broker.run([])
    assert broker.samples[-1].weights == [0.75]
    assert broker.samples[-1].label_policy.startswith("positive(click&dwell>=10) weight(min(dwell/20,10))")


def test_a_sample_carries_what_the_model_saw_at_its_positions() -> None:
    broker = Broker(log([prediction("r", 50), tick(1_000)]), log([outcome("r", 60, "b"), tick(1_000)]))
    broker.run([])
    whole, one = broker.samples
    assert whole.features == {"topic": ["t0", "t1", "t2"], "age": [0.0, 1.0, 2.0]}
    assert one.features == {"topic": ["t1"], "age": [1.0]}
    assert (whole.context, one.context) == (prediction("r", 50).context,) * 2
    assert (one.scores, one.propensities, one.positions) == ([0.49], [-1.0], [1])
    assert one.sent_times == [outcome("r", 60, "b").sent_time]
    assert (one.settle_time - one.event_time, whole.version, whole.sequence) == (100_000_000, 3, 17)


def test_a_request_id_of_full_length_still_names_its_samples() -> None:
    name = "q" * 256
    broker = Broker(log([prediction(name, 50), tick(1_000)]), log([outcome(name, 60, event="e"), tick(1_000)]))
    broker.run([])
    assert len({sample.sample_id for sample in broker.samples}) == 2
    assert {sample.request_id for sample in broker.samples} == {name}


def test_a_record_under_another_key_is_refused() -> None:
    rows = log([prediction("r", 50), tick(1_000)])
    broker = Broker([replace(rows[0], key=b"other"), rows[1]], log([tick(1_000)]))
    broker.run([])
    assert [refusal.reason for refusal in broker.refusals] == ["wrong_key"]


def test_beyond_the_bound_the_oldest_slates_are_closed_and_counted_as_shed() -> None:
    from streams.settings import BoundSettings

    bounds = BoundSettings(slates=4, slates_in_memory=4)
    predictions = log([*(prediction(f"r{n}", n) for n in range(7)), prediction("r0", 0), tick(1_000)])
    outcomes = log([outcome("r0", 8, "a"), outcome("r6", 9, "a"), tick(1_000)])
    broker = Broker(predictions, outcomes, bounds=bounds)
    ledger = broker.run([(1, 0)] * 8 + [(0, 1)] * 2, lambda _: True).ledger
    assert (ledger.slates, ledger.shed, ledger.open) == (7, 9, 0)
    assert (ledger.settled_negative, ledger.settled_positive) == (11, 1)
    # The shed slate is not opened again by a repeat, and its outcome is late rather than lost without a word.
    assert (ledger.duplicate_predictions, ledger.late, ledger.orphan) == (1, 1, 0)


def test_beyond_the_bound_the_outcomes_that_waited_longest_are_orphans() -> None:
    from streams.settings import BoundSettings

    bounds = BoundSettings(waiting=3)
    outcomes = log([*(outcome(f"r{n}", 5, "a") for n in range(5)), tick(1_000)])
    predictions = log([*(prediction(f"r{n}", 5) for n in range(5)), tick(1_000)])
    broker = Broker(predictions, outcomes, bounds=bounds)
    ledger = broker.run([(0, 1)] * 5, lambda _: True).ledger
    assert (ledger.orphan, ledger.revisions) == (2, 3)
    assert [refusal.record.offset for refusal in broker.refusals] == [0, 1]


def test_what_is_open_keeps_its_rules_when_the_configuration_changes() -> None:
    predictions = log([prediction("r0", 0), prediction("r1", 10), tick(400)])
    outcomes = log([outcome("r0", 90, "a"), outcome("r1", 90, "a"), tick(400)])
    before = Broker(predictions, outcomes)
    join = before.restart()
    before.commit(join, join.feed(predictions[:1], []))
    after = Broker(predictions, outcomes, replace(JOIN, window_s=50), changelog=before.changelog)
    for _ in range(3):
        join = after.restart()
        after.commit(join, join.feed(predictions[join.predictions.offset :][:1], outcomes[join.outcomes.offset :][:1]))
    assert [sample.sample_id for sample in before.samples + after.samples] == ["r0:n", "r1:n", "r0:p0"]
    assert join.ledger.late == 1
