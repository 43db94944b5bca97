"""The gate: silent on what is clean, loud on five kinds of poison, and right about since when."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from feedback.events import OBSERVED, Sample
from feedback.features import FeatureSpec
from tests.trainer.loop.world import FEATURES, slates
from trainer.cusum import Cusum, Share, tilt
from trainer.fake import FakeLearner
from trainer.gate import Gate, LostNumbers
from trainer.groups import GateSettings, ValidationSettings
from trainer.lesson import takes
from trainer.loop import Loop
from trainer.origin import Alarm
from trainer.settings import ModelSettings
from trainer.settled import ROW
from trainer.validate import Settled, Slate, Validation

SETTINGS = GateSettings(reference=1000, arm=200, share_slates=100, probe_rows=50, probe_steps=20)
ONSET = 1600


def loop(settings: GateSettings = SETTINGS) -> Loop:
    spec = FeatureSpec(features=FEATURES)
    return Loop(
        spec,
        FakeLearner(spec, ModelSettings(), line="l"),
        Validation(ValidationSettings(), None),
        Gate(settings),
        line="l",
        checksum_every=1000,
        warmup_rows=0,
    )


def clean(count: int, seed: int) -> Iterator[Sample]:
    """Slates whose labels are known at once: the first sample with revisions merged in."""
    for first, *later in slates(count, seed=seed):
        turned = {item for each in later for item in each.items}
        emissions = [
            1 if item in turned else emission for item, emission in zip(first.items, first.emissions, strict=True)
        ]
        yield msgspec.structs.replace(first, emissions=emissions)


def shuffled(sample: Sample, chance: random.Random) -> list[Sample]:
    return [msgspec.structs.replace(sample, emissions=chance.sample(sample.emissions, len(sample.emissions)))]


def inverted(sample: Sample, chance: random.Random) -> list[Sample]:
    return [msgspec.structs.replace(sample, emissions=[1 - emission for emission in sample.emissions])]


def stalled(sample: Sample, chance: random.Random) -> list[Sample]:
    return [msgspec.structs.replace(sample, emissions=[0] * len(sample.emissions))]


def flooded(sample: Sample, chance: random.Random) -> list[Sample]:
    again = msgspec.structs.replace(sample, request_id=sample.request_id + "x", user_id="flood")
    return [sample, again]


def run(
    poison: Callable[[Sample, random.Random], list[Sample]] | None, seed: int, *, count: int = 2000
) -> tuple[Alarm | None, int, int]:
    """Alarm, slates since the poison began, and the step at which it began."""
    chance, heart = random.Random(seed), loop()

    def stream() -> Iterator[Sample]:
        for number, sample in enumerate(clean(count, seed)):
            yield from poison(sample, chance) if poison and number >= ONSET else [sample]

    number, began = 0, 0
    for take in takes(stream(), 25):
        alarm = heart.step(take)
        number += len(take.records) - 1
        if number > ONSET and not began:
            began = heart.learner.step
        if alarm is not None:
            return alarm, number - ONSET, began
    return None, number - ONSET, began


@pytest.mark.parametrize("seed", range(2))
def test_a_clean_stream_raises_no_alarm(seed: int) -> None:
    assert run(None, seed, count=2400)[0] is None


POISONS = [(shuffled, "log_loss_cusum"), (inverted, ""), (stalled, "click_rate_stalled"), (flooded, "user_share")]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("poison", "check"), POISONS)
def test_a_poisoned_stream_is_refused_within_a_minute_and_its_onset_known(
    poison: Callable[[Sample, random.Random], list[Sample]], check: str, seed: int
) -> None:
    alarm, after, began = run(poison, seed)
    assert alarm is not None, "no alarm"
    assert check in alarm.check
    assert after <= 188, "slates that the news log has in a minute"
    assert began - 20 <= alarm.since_step <= began + 8


def elsewhere(count: int, seed: int, policy: str) -> Iterator[Sample]:
    """Slates that something else chose: other items, a tenth of the clicks, and a feature that tells the page."""
    chance = random.Random(seed)
    for each in clean(count, seed):
        yield msgspec.structs.replace(
            each,
            request_id=f"e{each.request_id}",
            items=[f"e{item}" for item in each.items],
            features={"match": [f"front {match}" for match in each.features["match"]]},
            emissions=[int(emission and chance.random() < 0.1) for emission in each.emissions],
            policy=policy,
        )


def beside(seed: int, policy: str, poison: Callable[[Sample, random.Random], list[Sample]] | None) -> Alarm | None:
    """The alarm where a stream of four times as many slates begins beside a clean one, and may be poisoned at ONSET."""
    chance, heart, others = random.Random(seed), loop(), elsewhere(4 * 2000, seed + 9, policy)

    def stream() -> Iterator[Sample]:
        for number, ours in enumerate(clean(2000, seed)):
            yield ours
            for theirs in itertools.islice(others, 4 * (number >= 600)):
                yield from poison(theirs, chance) if poison and number >= ONSET else [theirs]

    return next(filter(None, (heart.step(take) for take in takes(stream(), 25))), None)


@pytest.mark.parametrize("seed", range(2))
def test_slates_that_something_else_chose_may_have_another_click_rate(seed: int) -> None:
    assert beside(seed, OBSERVED, None) is None
    mixed = beside(seed, "test", None)
    assert mixed is not None, "as slates of our own they look like poison"
    assert mixed.subject == ""


@pytest.mark.parametrize(
    ("poison", "check"), [(stalled, "click_rate_stalled"), (flooded, "user_share"), (inverted, "")]
)
def test_poison_in_slates_that_something_else_chose_is_refused_too(
    poison: Callable[[Sample, random.Random], list[Sample]], check: str
) -> None:
    alarm = beside(1, OBSERVED, poison)
    assert alarm is not None
    assert check in alarm.check
    assert alarm.subject == ("reader flood in observed slates" if poison is flooded else "observed slates")
    assert "observed slates is " in alarm.reason


def test_numbers_that_are_not_finite_are_refused_at_once() -> None:
    heart = loop()
    heart.learner._weights["bias"] = math.nan  # type: ignore[attr-defined]
    alarm = heart.step(next(takes(clean(5, 1), 25)))
    assert alarm is not None
    assert alarm.check == "non_finite_scores"
    assert alarm.since_step == 1


def test_a_probe_set_whose_scores_jump_is_refused() -> None:
    gate = Gate(SETTINGS)
    gate.slates = 10_000
    gate.probe_samples = list(clean(2, 1))
    assert gate.probe_due(20)
    assert gate.probe(np.full(10, 0.2, np.float32), 20) is None
    assert gate.probe(np.full(10, 0.25, np.float32), 40) is None
    alarm = gate.probe(np.full(10, 0.99, np.float32), 60)
    assert alarm is not None
    assert alarm.check == "probe_drift"
    assert alarm.since_step == 41


def lost(share: float, seed: int) -> Iterator[bool]:
    chance = random.Random(seed)
    while True:
        yield chance.random() < share


def test_numbers_that_count_as_nothing_are_refused_where_they_are_new() -> None:
    normal, numbers = lost(0.002, 1), LostNumbers()
    assert all(numbers.add([next(normal) for _ in range(20)], step, 1e7) is None for step in range(2_000))
    alarm = next(filter(None, (numbers.add([True, False], step, 1e7) for step in range(2_000, 2_010))))
    assert alarm.check == "numbers_lost"
    assert alarm.since_step == 2_000
    assert alarm.limit == pytest.approx(0.002, abs=0.001)


def test_numbers_that_count_as_nothing_are_let_pass_where_they_are_usual() -> None:
    usual, numbers = lost(0.3, 2), LostNumbers()
    numbers.restore([[1_000, 300], 0.0, 0])
    assert all(numbers.add([next(usual) for _ in range(20)], step, 1e7) is None for step in range(500))


def test_the_gate_counts_the_slates_that_have_such_a_number() -> None:
    gate, samples = Gate(SETTINGS), list(clean(3, 1))
    scores = np.full(sum(len(sample.emissions) for sample in samples), 0.2, np.float32)
    spoilt = np.zeros(len(scores), bool)
    spoilt[[0, 1, -1]] = True
    assert gate.step(samples, scores, 1, spoilt) is None, "nothing is known yet"
    gate.slates = 10_000
    found = [gate.step(samples, scores, step, spoilt) for step in range(2, 6)]
    alarm = next(filter(None, found))
    assert (alarm.check, alarm.since_step) == ("numbers_lost", 2)
    assert alarm.value == pytest.approx(2 / 3)


def settle(gate: Gate, score: float, slates: range, policy: str = "") -> Alarm | None:
    """Ten impressions each, of which one was clicked, and a baseline that said the same as the model."""
    for number in slates:
        rows = np.zeros(10, ROW)
        rows["score"] = rows["baseline"] = score
        rows["label"][0], rows["time"] = 1, 1 + number * 1_000_000
        slate = Slate(f"r{number}", 0, 0, 0, policy, True, number, [], [])
        if alarm := gate.settled(Settled([slate], np.zeros(1, np.int64), rows, np.zeros(10))):
            return alarm
    return None


def test_calibration_leaves_out_what_an_unlearned_model_said() -> None:
    gate = Gate(SETTINGS)
    assert settle(gate, 0.9, range(SETTINGS.arm)) is None
    assert settle(gate, 0.1, range(SETTINGS.arm, 2_000)) is None
    alarm = settle(gate, 0.9, range(2_000, 3_000))
    assert alarm is not None
    assert (alarm.check, alarm.limit) == ("calibration", SETTINGS.calibration_high)


def test_calibration_leaves_out_what_something_else_chose() -> None:
    gate = Gate(SETTINGS)
    assert settle(gate, 0.1, range(2_000)) is None
    assert settle(gate, 0.9, range(2_000, 4_000), OBSERVED) is None
    alarm = settle(gate, 0.9, range(4_000, 5_000))
    assert alarm is not None
    assert (alarm.check, alarm.subject) == ("calibration", "")


def test_a_gate_of_before_there_were_slates_of_others_goes_on() -> None:
    gate, old = Gate(SETTINGS), Gate(SETTINGS)
    assert settle(gate, 0.1, range(2_000)) is None
    state = {name: part for name, part in gate.state().items() if name != "observed"}
    old.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(state)))
    assert old.state() == gate.state()


def test_a_gate_that_is_switched_off_still_refuses_what_is_not_finite() -> None:
    gate = Gate(GateSettings(enabled=False))
    assert gate.step([], np.array([0.5], np.float32), 1) is None
    assert gate.step([], np.array([np.inf], np.float32), 1) is not None


def test_going_on_from_a_saved_gate_gives_the_same_alarm() -> None:
    chance = random.Random(5)
    stream = [*clean(ONSET, 5), *(shuffled(s, chance)[0] for s in clean(400, 6))]
    others = elsewhere(len(stream), 7, OBSERVED)
    stream = [each for ours in stream for each in (ours, next(others))]
    every = list(takes(stream, 25))

    def alarms(cut: int) -> list[tuple[int, Alarm]]:
        heart, found = loop(), []
        for number, take in enumerate(every):
            if number == cut:
                saved = msgspec.msgpack.decode(msgspec.msgpack.encode(heart.gate.state()))
                heart.gate = Gate(SETTINGS)
                heart.gate.restore(saved)
            if (alarm := heart.step(take)) is not None:
                found.append((number, alarm))
                break
        return found

    assert alarms(-1) == alarms(100) == alarms(300)
    assert alarms(-1)


def test_the_threshold_keeps_its_promise_of_false_alarms() -> None:
    random_ = np.random.default_rng(1)
    often, length, runs = 2_000.0, 2_000, 60
    alarms = 0
    for _ in range(runs):
        cusum = Cusum(worst=1.0, reference=1000, arm=500)
        values = np.clip(random_.normal(-0.1, 0.3, 1000 + length), -1, 1).tolist()
        alarms += sum(cusum.add(x, 1, often) for x in values[:1000])
        alarms += any(cusum.add(x, 1, often) for x in values[1000:])
    assert alarms <= runs, "at most one per `often` observations"


def test_the_tilt_solves_its_equation() -> None:
    values = np.random.default_rng(2).normal(-0.2, 0.4, 2000).tolist()
    theta = tilt(values, 1.0)
    assert np.exp(theta * np.array([*values, 1.0])).mean() == pytest.approx(1.0, abs=1e-6)
    assert theta == pytest.approx(2 * 0.2 / 0.16, rel=0.2)
    assert tilt([0.1, 0.2], 1.0) == 0.0


def test_a_reader_with_many_slates_is_normal_where_that_was_always_so() -> None:
    share = Share(size=100, normal=0.05)
    for number in range(3000):
        assert share.add("busy" if number % 5 < 2 else f"u{number}", number, 1e6) is None
