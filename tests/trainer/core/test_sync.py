"""A served model follows the learner delta by delta, whatever is repeated, skipped, batched or read meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.core.rows import batch, learner, strings
from tests.trainer.core.serve import Served
from trainer import delta
from trainer.batch import Array, Batch
from trainer.learner import Learner
from trainer.settings import Admission, SlotSettings

SLOTS = SlotSettings(capacity=64, sweep_rows=8192, rest_s=2, rest_sequences=2, every=Admission(unseen_s=15))


@dataclass
class World:
    """A learner, bases exported on its way, and every delta."""

    model: Learner
    folder: Path
    deltas: list[bytes] = field(default_factory=list)
    probes: dict[int, tuple[bytes, int]] = field(default_factory=dict)

    def go(self, steps: int) -> None:
        """Take steps with a delta each."""
        for _ in range(steps):
            seed = len(self.deltas)
            self.model.learn(batch(seed, 100, time_s=seed, users=40 + 10 * seed))
            self.deltas.append(self.model.take_delta())
            self.probes[self.model.sequence] = self.model.checksum(seed)

    def base(self) -> Path:
        """Export where the learner is."""
        path = self.folder / str(self.model.sequence)
        self.model.snapshot().export(path, batch(0, 4))
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """20 steps, a base at 0, 10 and 20; rows grow from 64 to far more, and keys expire."""
    made = World(learner(slots=SLOTS, heads=2, dim=4, hidden=(8,)), tmp_path_factory.mktemp("bases"))
    made.base()
    for _ in range(2):
        made.go(10)
        made.base()
    return made


@pytest.fixture
def served(world: World) -> Iterator[Served]:
    """The base at 10."""
    loaded = Served(world.folder / "10")
    yield loaded
    loaded.close()


def place(answer: dict[str, Array]) -> tuple[int, int]:
    return int(answer["epoch"][0]), int(answer["sequence"][0])


def test_an_empty_delta_only_asks(served: Served) -> None:
    assert place(served.sync([b""])) == (1, 10)
    assert served.sync([b"", b"", b""])["sequence"].tolist() == [10, 10, 10]


def test_a_base_and_its_deltas_are_the_next_base_bit_for_bit(world: World, served: Served) -> None:
    assert any(delta_removes(d) for d in world.deltas[10:])
    for i, value in enumerate(world.deltas[10:], start=11):
        assert place(served.sync([value])) == (1, i)
        probe, expected = world.probes[i]
        assert served.checksum(probe) == expected
    fresh = Served(world.folder / "20")
    rows = batch(5, 200, users=300)
    ours, theirs = served.predict(rows.columns), fresh.predict(rows.columns)
    for name in ("score", "heads", "sequence"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(ours["score"], world.model.score(rows))
    fresh.close()


def delta_removes(value: bytes) -> bool:
    return bool(np.frombuffer(value, np.int32)[6:12].reshape(2, 3)[:, 0].any())


def test_a_gap_changes_nothing_and_says_where_the_model_is(world: World, served: Served) -> None:
    probe, expected = world.probes[10]
    assert place(served.sync([world.deltas[11]])) == (1, 10)
    assert served.checksum(probe) == expected


def test_a_repeat_changes_nothing(world: World, served: Served) -> None:
    served.sync(world.deltas[10:14])
    for i in (9, 10, 13):
        assert place(served.sync([world.deltas[i]])) == (1, 14)
    probe, expected = world.probes[14]
    assert served.checksum(probe) == expected


def test_several_deltas_in_one_call_padded_with_repeats_are_applied_in_order(world: World, served: Served) -> None:
    answer = served.sync([*world.deltas[10:15], world.deltas[14], world.deltas[14], b""])
    assert answer["sequence"].tolist() == [15] * 8
    probe, expected = world.probes[15]
    assert served.checksum(probe) == expected


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_delta_of_another_epoch_changes_nothing(world: World, served: Served, epoch: int) -> None:
    words = np.frombuffer(world.deltas[10], np.int32).copy()
    words[1] = epoch
    assert place(served.sync([words.tobytes()])) == (1, 10)
    probe, expected = world.probes[10]
    assert served.checksum(probe) == expected


@pytest.mark.parametrize("broken", [b"1234", b"12345", b"x" * 400, "cut", "longer"])
def test_bytes_that_are_no_delta_are_refused_and_change_nothing(
    world: World, served: Served, broken: bytes | str
) -> None:
    value = world.deltas[10]
    bad = {"cut": value[:-8], "longer": value + b"1234"}.get(str(broken), broken)
    with pytest.raises(tf.errors.InvalidArgumentError):
        served.sync([bad])  # type: ignore[list-item]
    probe, expected = world.probes[10]
    assert served.checksum(probe) == expected
    assert place(served.sync([value])) == (1, 11)


def test_the_same_deltas_from_many_threads_are_applied_once_each_in_order(world: World, served: Served) -> None:
    def follow() -> None:
        for value in world.deltas[10:]:
            served.sync([value])

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place(served.sync([b""])) == (1, 20)
    probe, expected = world.probes[20]
    assert served.checksum(probe) == expected


def test_a_base_too_small_for_a_row_goes_on_with_the_default_for_it(world: World) -> None:
    """The base at 0 has room for 64 rows; its successors for more. The same deltas serve them all during a swap."""
    small = Served(world.folder / "0")
    for value in world.deltas:
        small.sync([value])
    assert place(small.sync([b""])) == (1, 20)
    rows = batch(3, 50, users=300)
    scores = small.predict(rows.columns)["score"]
    assert np.isfinite(scores).all() and (scores > 0).all()
    unknown = replace(
        rows, columns={**rows.columns, "user": strings(["nobody"] * 50), "item": strings(["nothing"] * 50)}
    )
    rest = small.predict(unknown.columns)["score"]
    assert rest.min() > 0
    small.close()


def test_predictions_meanwhile_see_old_or_new_rows_and_never_a_key_without_its_row(tmp_path: Path) -> None:
    """Every row of a delta k is (k, k, …): an answer that mixes two deltas in one row, or finds a key before its row, shows."""
    model = learner(kind="linear", crosses=(), slots=SlotSettings(capacity=4096), heads=7)
    model.learn(batch(0, 8))
    model.take_delta()
    model.snapshot().export(tmp_path / "1")
    served = Served(tmp_path / "1")
    columns = {name: column[:1] for name, column in batch(0, 1).columns.items()}
    columns |= {"tags": strings([""])[:, None], "user": strings(["watched"]), "item": strings(["new"])}
    keys = model.prepare(whole(columns)).keys[0][0]
    first, width = 1000, model.plan.tables[0].served
    reserved = np.arange(1, model.plan.tables[0].reserved, dtype=np.int32)
    dense = np.zeros(model.plan.dense_size, np.float32)
    blank = delta.Part(keys[:0], reserved, np.zeros((len(reserved), width), np.float32), keys[:0], reserved[:0])
    served.sync([delta.encode(epoch=1, previous=1, parts=[blank], dense=dense)])
    seen: list[Array] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(served.predict(columns)["heads"][0])

    thread = threading.Thread(target=read)
    thread.start()
    for k in range(2, 300):
        slot = first + k
        part = delta.Part(
            removed=keys[:1] if k > 2 else keys[:0],
            slots=np.array([slot, slot + 1], np.int32),
            rows=np.full((2, width), float(k % 7) / 7 + 0.1, np.float32),
            keys=keys[:1],
            at=np.array([slot], np.int32),
        )
        answer = served.sync([delta.encode(epoch=1, previous=k, parts=[part], dense=dense)])
        assert int(answer["sequence"][0]) == k + 1
    done.set()
    thread.join()
    assert all(len(set(heads.tolist())) == 1 for heads in seen)
    assert len({float(heads[0]) for heads in seen}) > 1
    served.close()


def whole(columns: dict[str, Array]) -> Batch:
    one = np.ones(1, np.float32)
    return Batch(
        columns=columns, emissions=one.astype(np.int8), weights=one, positions=one.astype(np.int32), event_time=0
    )


def test_a_delta_carries_little_besides_its_numbers(world: World) -> None:
    model = learner()
    for seed in range(3):
        model.learn(batch(seed, 1000, users=5000, items=500))
        model.take_delta()
    model.learn(batch(9, 4000, users=50_000, items=500))
    value = model.take_delta()
    counts = np.frombuffer(value, np.int32)[6:12].reshape(2, 3)
    floats = sum(int(c[1]) * t.served for c, t in zip(counts, model.plan.tables, strict=True)) + model.plan.dense_size
    numbers = 4 * (floats + int(counts[:, 1].sum())) + 12 * int(counts[:, 2].sum())
    assert counts[:, 2].sum() > 1000
    assert (len(value) - 1024) / numbers <= 1.1
