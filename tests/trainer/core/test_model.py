"""The graph of each kind of model against its formula in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback.errors import ConfigError
from feedback.features import Feature, FeatureSpec
from tests.trainer.core.rows import SPEC, batch, learner
from trainer.batch import ELSEWHERE, Batch
from trainer.fields import mixing, plan
from trainer.learner import Learner
from trainer.settings import FtrlSettings, ModelSettings
from trainer.snapshot import Snapshot

Array = NDArray[Any]

KINDS = ("linear", "fm", "deepfm", "dcn")


def by_hand(snapshot: Snapshot, rows: Batch, slots: list[Array]) -> Array:
    """The score from the weights, row by row."""
    dense = {w.name: snapshot.dense[0][w.offset : w.offset + w.size].reshape(w.shape) for w in snapshot.plan.dense}
    age = rows.columns["age"]
    number = np.sign(age) * np.log1p(np.abs(age))
    logits = []
    for row in range(len(rows)):
        total = float(dense["bias"][0] + dense["numbers"][0] * number[row])
        embeddings: list[Array] = []
        for i, table in enumerate(snapshot.plan.tables):
            served = snapshot.served(i)
            groups = np.split(slots[i][row], _ends(table, slots[i].shape[1]))
            for group in groups:
                present = group[group > 0]
                pooled = served[present].sum(axis=0) / np.sqrt(max(len(present), 1))
                total += pooled[0]
                embeddings += [pooled[1:]] if table.dim else []
        total += _deep(snapshot, embeddings, number[row], dense)
        logits.append(total)
    scores: Array = 1.0 / (1.0 + np.exp(-np.array(logits)))
    return scores


def _ends(table: Any, columns: int) -> list[int]:
    """Where one field's columns end: here the multi-valued field is the last one of its table."""
    return list(range(1, len(table.single) + (columns > len(table.single))))


def _deep(snapshot: Snapshot, embeddings: list[Array], number: float, dense: dict[str, Array]) -> float:
    kind = snapshot.plan.settings.kind
    total = 0.0
    if kind in ("fm", "deepfm"):
        total += sum(float(a @ b) for i, a in enumerate(embeddings) for b in embeddings[:i])
    if kind in ("deepfm", "dcn"):
        start = np.concatenate([*embeddings, [number]])
        layer = start
        for i in range(len(snapshot.plan.settings.hidden)):
            layer = np.maximum(layer @ dense[f"hidden{i}"] + dense[f"hidden{i}_bias"], 0.0)
        total += float((layer @ dense["out"])[0])
        if kind == "dcn":
            layer = start
            for i in range(snapshot.plan.settings.cross_layers):
                layer = start * (layer @ dense[f"cross{i}"] + dense[f"cross{i}_bias"]) + layer
            total += float((layer @ dense["cross_out"])[0])
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_the_formula_s(kind: str) -> None:
    crosses = ("user*item",) if kind == "linear" else ("user*item", "user*tags")
    model = learner(kind=kind, crosses=crosses, dim=4, hidden=(8, 4))
    for seed in range(12):
        model.learn(batch(seed))
    rows = batch(99, 16)
    keyed = model.prepare(rows)
    slots = []
    for at, widths, table in zip(model._engine.find(keyed), keyed.widths, model.plan.tables, strict=True):
        fields = np.concatenate([np.arange(len(table.single)), np.repeat(np.arange(len(table.single), 9), widths[0])])
        slots.append(np.where(at < 0, fields[: at.shape[1]] + 1, at))
    np.testing.assert_allclose(model.score(rows), by_hand(model.snapshot(), rows, slots), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_what_decides_the_clicks(kind: str) -> None:
    model = learner(kind=kind, dim=4, ftrl=FtrlSettings(alpha=1.0))
    first = [model.learn(batch(seed, 128)) for seed in range(60)][-1]
    labels = batch(59, 128).emissions == 1
    assert first[labels].mean() > first[~labels].mean() + 0.2


def test_a_row_s_score_does_not_depend_on_the_other_rows() -> None:
    models = [learner(), learner()]
    for seed in range(5):
        for model in models:
            model.learn(batch(seed))
    rows, others = batch(50, 32), batch(51, 32)
    mixed = Batch(
        columns={
            name: np.concatenate(
                [c[:1], others.columns[name][1:, : c.shape[1]] if c.ndim > 1 else others.columns[name][1:]]
            )
            for name, c in rows.columns.items()
        },
        emissions=1 - rows.emissions,
        weights=rows.weights,
        positions=rows.positions,
        event_time=0,
    )
    assert models[0].learn(rows)[0] == models[1].learn(mixed)[0]


def test_the_same_string_has_another_key_in_another_feature() -> None:
    fields = [f for t in plan(SPEC, ModelSettings(crosses=("user*item", "user*tags"))).tables for f in t.fields]
    assert len({mixing(field) for field in fields}) == len(fields) == 5


def test_numbers_that_are_not_finite_count_as_zero() -> None:
    model = learner()
    model.learn(batch(0))
    rows = batch(1, 3)
    rows.columns["age"][:] = [np.nan, np.inf, -np.inf]
    zero = batch(1, 3)
    zero.columns["age"][:] = 0.0
    np.testing.assert_array_equal(model.score(rows), model.score(zero))


def test_position_is_learned_and_serving_assumes_the_reference() -> None:
    model = learner(kind="linear", crosses=(), positions=3, reference_position=1, ftrl=FtrlSettings(alpha=1.0))
    for seed in range(40):
        rows = batch(seed, 256)
        rows.emissions[:] = rows.positions == 0
        scores = model.learn(rows)
    assert scores[rows.positions == 0].mean() > 0.7 > 0.3 > scores[rows.positions > 0].mean()
    assert model.score(rows).max() < 0.4


def test_what_stands_elsewhere_has_no_position_s_bias_and_teaches_none() -> None:
    def dense(model: Learner, name: str) -> Array:
        found = model.snapshot()
        [at] = [weight for weight in found.plan.dense if weight.name == name]
        values: Array = found.dense[0][at.offset : at.offset + at.size].copy()
        return values

    model = learner(kind="linear", crosses=(), positions=3, ftrl=FtrlSettings(alpha=1.0))
    for seed in range(20):
        rows = batch(seed, 256)
        rows.emissions[:] = rows.positions == 0
        model.learn(rows)
    biases, bias = dense(model, "positions"), dense(model, "bias")
    assert (np.abs(biases) > 0.1).all()
    rows = batch(100, 256)
    rows.emissions[:] = 1
    rows.positions[:] = ELSEWHERE
    at_top = model.score(rows)
    elsewhere = model.learn(rows)
    logit = np.log(elsewhere) - np.log1p(-elsewhere)
    np.testing.assert_allclose(np.log(at_top) - np.log1p(-at_top) - logit, biases[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(dense(model, "positions"), biases)
    assert dense(model, "bias")[0] > bias[0], "the rest is taught"


def test_heads_spread_where_little_is_known() -> None:
    model = learner(kind="fm", heads=16, crosses=())
    for seed in range(30):
        model.learn(batch(seed, 128))
    once = batch(1000, 64, users=40, items=25)
    once.columns["item"][:] = [f"new{i}" for i in range(64)]
    model.learn(once)
    new, old = model.heads(once), model.heads(batch(3))
    assert np.std(new, axis=1).min() > 0 < np.std(old, axis=1).min()
    np.testing.assert_allclose(model.score(once), learner_without_heads(once).score(once), rtol=1e-4)


def learner_without_heads(once: Batch) -> Learner:
    model = learner(kind="fm", crosses=())
    for seed in range(30):
        model.learn(batch(seed, 128))
    model.learn(once)
    return model


@pytest.mark.parametrize(
    "wrong",
    [
        {"crosses": ("user*nobody",)},
        {"crosses": ("user",)},
        {"embed": ("age",)},
        {"positions": 2, "reference_position": 2},
    ],
)
def test_settings_that_do_not_fit_the_features_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(set(wrong) - {"positions"}))):
        plan(SPEC, ModelSettings(**wrong))


def test_a_model_without_any_string_is_refused() -> None:
    numbers = FeatureSpec(features=(Feature(name="age", source="candidate", kind="number"),))
    with pytest.raises(ConfigError, match="string"):
        plan(numbers, ModelSettings())
