"""A learner scores before it learns, repeats itself bit for bit, and says what changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feedback.errors import CorruptError, EventError, UsageError
from feedback.events import REVISION
from tests.trainer.core.rows import batch, learner
from trainer.delta import content
from trainer.learner import Learner
from trainer.settings import Admission, SlotSettings

SLOTS = SlotSettings(
    capacity=64,
    sweep_rows=64,
    rest_s=5,
    rest_sequences=2,
    every=Admission(unseen_s=30),
    per={"user*item": Admission(sightings=2, unseen_s=20)},
)


def test_a_first_score_is_given_before_the_rows_are_learned() -> None:
    model = learner()
    for seed in range(5):
        model.learn(batch(seed))
    rows = batch(7)
    before = model.score(rows)
    np.testing.assert_array_equal(model.learn(rows), before)
    assert (model.score(rows) != before).any()


def test_two_learners_give_the_same_bytes() -> None:
    models = [learner(slots=SLOTS, heads=2) for _ in range(2)]
    for seed in range(40):
        scores = [model.learn(batch(seed, 200, time_s=seed)) for model in models]
        np.testing.assert_array_equal(scores[0], scores[1])
        if seed % 3 == 0:
            first, second = (model.take_delta() for model in models)
            assert first == second
    assert models[0].digest() == models[1].digest()
    assert models[0].chain() == models[1].chain()


@pytest.mark.parametrize("stop", [1, 13, 20])
def test_a_continued_learner_gives_the_bytes_of_one_never_stopped(stop: int, tmp_path: Path) -> None:
    original = learner(slots=SLOTS, heads=2)
    for seed in range(stop):
        original.learn(batch(seed, 150, time_s=2 * seed))
        if seed % 4 == 0:
            original.take_delta()
    original.save(tmp_path)
    continued = Learner.load(tmp_path)
    assert continued.digest() == original.digest()
    for seed in range(stop, 40):
        for model in (original, continued):
            model.learn(batch(seed, 150, time_s=2 * seed))
        assert original.take_delta() == continued.take_delta()
    assert (continued.step, continued.sequence, continued.chain()) == (
        original.step,
        original.sequence,
        original.chain(),
    )
    assert continued.digest() == original.digest()


def test_a_snapshot_stays_while_the_learner_goes_on() -> None:
    model = learner()
    model.learn(batch(0))
    snapshot = model.snapshot()
    digest = snapshot.digest()
    for seed in range(1, 5):
        model.learn(batch(seed))
    assert snapshot.digest() == digest != model.digest()


def test_growth_keeps_what_was_learned() -> None:
    small, large = (learner(slots=SlotSettings(capacity=c)) for c in (64, 65_536))
    for seed in range(20):
        rows = batch(seed, 200, users=500, items=100)
        np.testing.assert_array_equal(small.learn(rows), large.learn(rows))
    assert small.tables[1].slots.capacity > 1_000


def test_a_value_unseen_for_long_is_forgotten_and_its_slot_comes_back() -> None:
    model = learner(slots=SLOTS)
    for step in range(60):
        model.learn(batch(step, 100, time_s=step, users=10 + 10 * (step < 20)))
        model.take_delta()
    known = {int(key) for key in model.tables[1].slots.keys[: model.tables[1].slots.next]}
    rows = batch(3, 100, users=20)
    old = model._engine.find(model.prepare(rows))[0]
    gone = np.char.isdigit(rows.columns["user"].astype(str)) & (rows.columns["user"].astype(int) >= 10)
    assert (old[gone, 0] == -1).all() and (old[~gone, 0] > 0).all()
    assert len(known) < 500


def test_values_not_yet_admitted_share_their_field_s_default_row() -> None:
    model = learner(kind="fm", crosses=(), slots=SlotSettings(every=Admission(sightings=1_000)))
    for seed in range(10):
        model.learn(batch(seed))
    rows = batch(11)
    assert [rows.slots.owned for rows in model.tables] == [0]
    for name in ("user", "item", "tags"):
        rows.columns[name][rows.columns[name] != ""] = "anybody"
    assert model.learn(rows).min() > 0


def test_a_revision_is_no_sighting() -> None:
    model = learner(slots=SlotSettings(every=Admission(sightings=2)))
    rows = batch(0)
    revised = replace(rows, emissions=np.full(len(rows), REVISION, np.int8))
    model.learn(revised)
    model.learn(revised)
    assert [rows.slots.owned for rows in model.tables] == [0, 0]


def test_weights_other_than_one_are_refused_with_fnw() -> None:
    rows = batch(0)
    heavy = replace(rows, weights=rows.weights * 2)
    learner(revision="reversal").learn(heavy)
    model = learner(revision="fnw")
    with pytest.raises(EventError, match="weights"):
        model.learn(heavy)
    assert model.step == 0


def test_a_weight_counts_like_as_many_rows() -> None:
    models = [learner(kind="linear", crosses=()) for _ in range(2)]
    rows = batch(0, 8)
    twice = rows.take(slice(None))
    models[0].learn(replace(rows, weights=rows.weights * 2))
    models[1].learn(
        replace(
            twice,
            columns={name: np.concatenate([c, c]) for name, c in rows.columns.items()},
            emissions=np.tile(rows.emissions, 2),
            weights=np.tile(rows.weights, 2),
            positions=np.tile(rows.positions, 2),
        )
    )
    np.testing.assert_allclose(models[0].score(rows), models[1].score(rows), rtol=1e-5)


def test_a_delta_follows_each_step_and_nothing_follows_nothing() -> None:
    model = learner()
    assert model.take_delta() == b"" and model.sequence == 0
    model.learn(batch(0))
    assert model.take_delta() and model.sequence == 1
    assert model.take_delta() == b"" and model.sequence == 1


def test_no_rows_are_no_step() -> None:
    model = learner()
    assert len(model.learn(batch(0).take(slice(0, 0)))) == 0
    assert model.step == 0


def test_a_checksum_is_only_taken_where_a_served_model_can_be() -> None:
    model = learner()
    model.learn(batch(0))
    with pytest.raises(UsageError, match="delta"):
        model.checksum(1)
    model.take_delta()
    assert model.checksum(1) == model.checksum(1) != model.checksum(2)


@pytest.mark.parametrize("name", ["state.json", "wide_keys.npy", "dense.npy"])
def test_a_checkpoint_with_a_file_missing_or_cut_is_refused(name: str, tmp_path: Path) -> None:
    model = learner()
    model.learn(batch(0))
    model.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptError):
        Learner.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CorruptError):
        Learner.load(tmp_path)


def test_a_delta_is_what_it_carries_and_a_few_words_more() -> None:
    model = learner(slots=SLOTS, heads=2)
    served = [rows.table.served for rows in model.tables]
    removed = 0
    for step in range(60):
        model.learn(batch(step, 100, time_s=2 * step, users=10 + 10 * (step < 20)))
        carried, gone = (
            [len(rows.changed()) for rows in model.tables],
            [len(rows.slots.removed) for rows in model.tables],
        )
        born = [int(rows.slots.born.sum()) for rows in model.tables]
        floats = len(model.snapshot().dense[0]) + sum(n * (1 + width) for n, width in zip(carried, served, strict=True))
        value = model.take_delta()
        assert content(value, served) == 4 * floats + 12 * sum(born) + 8 * sum(gone)
        assert len(value) - content(value, served) == 24 + 12 * len(served)
        removed += sum(gone)
    assert removed
