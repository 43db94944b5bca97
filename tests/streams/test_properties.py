"""The join's promises, over histories that hypothesis makes up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from feedback.codec import encode
from feedback.events import Outcome, Prediction, Sample, Tick
from streams.settings import BoundSettings, JoinSettings, LabelSettings
from tests.streams.world import JOIN, Broker, log, outcome, prediction, tick

ITEMS = ("a", "b", "c")

JOINS = [
    JOIN,
    replace(JOIN, hold_s=20),
    replace(JOIN, hold_s=100),
    replace(JOIN, hold_s=20, positives="at_close"),
    replace(JOIN, hold_s=100, positives="at_close"),
    replace(JOIN, hold_s=0, positives="at_close"),
]
LABELS = [
    LabelSettings(),
    LabelSettings(negatives="viewed"),
    LabelSettings(min_dwell_s=10, weight="dwell", weight_unit=20, negatives="viewed"),
]


@dataclass(frozen=True)
class History:
    """What happened, sorted and once each."""

    predictions: list[Prediction]
    outcomes: list[Outcome]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Slates over five minutes, and outcomes before, inside and after their windows."""
    times = draw(st.lists(st.integers(0, 300), min_size=1, max_size=8))
    predictions = [prediction(f"r{number}", at, ITEMS) for number, at in enumerate(sorted(times))]
    kinds = st.sampled_from([("click", 1.0), ("view", 1.0), ("dwell", 5.0), ("dwell", 30.0), ("conversion", 9.0)])
    happened = draw(
        st.lists(
            st.tuples(st.integers(0, len(times)), st.sampled_from((*ITEMS, "x")), kinds, st.integers(-5, 130)),
            max_size=25,
        )
    )
    outcomes = []
    for number, (slate, item, (kind, value), delay) in enumerate(happened):
        at = sorted(times)[slate] if slate < len(times) else 50
        outcomes.append(outcome(f"r{slate}", max(0, at + delay), item, kind, value=value, event=f"e{number}"))
    return History(predictions, sorted(outcomes, key=lambda each: each.event_time))


END: list[Prediction | Outcome | Tick] = [tick(900), tick(2_000)]


def disturbed(
    events: list[Prediction] | list[Outcome], seed: int, lateness_s: float
) -> list[Prediction | Outcome | Tick]:
    """The same events with repeats, out of order by less than the lateness, and with ticks."""
    random = Random(seed)
    out: list[tuple[float, Prediction | Outcome | Tick]] = []
    for event in events:
        at = event.event_time / 1e6
        out.append((at + random.uniform(0, lateness_s * 0.98), event))
        if random.random() < 0.3:
            out.append((at + random.uniform(0, lateness_s * 0.98), event))
        if random.random() < 0.3:
            out.append((at, Tick(event_time=event.event_time, sent_time=0)))
    return [event for _, event in sorted(out, key=lambda pair: pair[0])] + END


def timeless(weighed: bool, sample: Sample) -> Sample:
    """A sample without what the order of arrival may decide: whose `sent_time` it carries, and, where a positive goes out before all is
    known, its weight so far."""
    return structs.replace(sample, sent_times=[], weights=sample.weights if weighed else [])


def taught(samples: Iterable[Sample]) -> Counter[bytes]:
    """The samples, without regard to their order."""
    return Counter(encode(sample) for sample in samples)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=histories(),
    join=st.sampled_from(JOINS),
    labels=st.sampled_from(LABELS),
    seed=st.integers(0, 2**32),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12),
    crashes=st.sets(st.integers(0, 12)),
)
def test_disturbed_interleaved_and_crashed_the_join_teaches_the_same(
    history: History,
    join: JoinSettings,
    labels: LabelSettings,
    seed: int,
    steps: list[tuple[int, int]],
    crashes: set[int],
) -> None:
    calm = Broker(log([*history.predictions, *END]), log([*history.outcomes, *END]), join, labels)
    calm.run([])
    wild = Broker(
        log(disturbed(history.predictions, seed, join.lateness_s)),
        log(disturbed(history.outcomes, seed + 1, join.lateness_s)),
        join,
        labels,
    )
    ledger = wild.run(steps, crashes.__contains__).ledger
    weighed = join.positives == "at_close" and join.hold_s == join.window_s
    assert taught(map(partial(timeless, weighed), wild.samples)) == taught(
        map(partial(timeless, weighed), calm.samples)
    )
    assert ledger.open == 0
    assert ledger.settled_negative + ledger.settled_positive == ledger.impressions == 3 * len(history.predictions)
    assert ledger.shed == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=histories(),
    join=st.sampled_from(JOINS),
    labels=st.sampled_from(LABELS),
    seed=st.integers(0, 2**32),
    unwritten=st.integers(1, 3),
    in_memory=st.integers(3, 5),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12),
    crashes=st.sets(st.integers(0, 12)),
)
def test_with_slates_on_disk_the_join_teaches_the_same(
    history: History,
    join: JoinSettings,
    labels: LabelSettings,
    seed: int,
    unwritten: int,
    in_memory: int,
    steps: list[tuple[int, int]],
    crashes: set[int],
) -> None:
    predictions = log(disturbed(history.predictions, seed, 40))
    outcomes = log(disturbed(history.outcomes, seed + 1, 40))
    whole = Broker(predictions, outcomes, join, labels)
    ledger = whole.run([]).ledger
    with TemporaryDirectory() as folder:
        bounds = BoundSettings(unwritten=unwritten, slates_in_memory=in_memory)
        disk = Broker(predictions, outcomes, join, labels, bounds, disk=Path(folder) / "slates")
        found = disk.run(steps, crashes.__contains__).ledger
        disk.slates().close()
    assert taught(disk.samples) == taught(whole.samples)
    assert (found.settled_negative, found.settled_positive) == (ledger.settled_negative, ledger.settled_positive)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=histories(),
    join=st.sampled_from(JOINS),
    labels=st.sampled_from(LABELS),
    seed=st.integers(0, 2**32),
    lateness_s=st.sampled_from([5.0, 40.0, 200.0]),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12),
    crashes=st.sets(st.integers(0, 12)),
)
def test_whatever_the_disorder_the_samples_depend_on_the_logs_alone(
    history: History,
    join: JoinSettings,
    labels: LabelSettings,
    seed: int,
    lateness_s: float,
    steps: list[tuple[int, int]],
    crashes: set[int],
) -> None:
    predictions = log(disturbed(history.predictions, seed, lateness_s))
    outcomes = log(disturbed(history.outcomes, seed + 1, lateness_s))
    whole = Broker(predictions, outcomes, join, labels)
    whole.run([])
    parts = Broker(predictions, outcomes, join, labels)
    parts.run(steps, crashes.__contains__)
    assert taught(parts.samples) == taught(whole.samples)
    assert max(taught(parts.samples).values(), default=1) == 1
