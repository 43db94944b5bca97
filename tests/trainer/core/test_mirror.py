"""A snapshot reads again what changed since the last one, and nothing else, and is the same as a whole copy."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.core.rows import batch, learner
from tests.trainer.core.test_learner import SLOTS
from trainer.learner import Learner

Array = NDArray[Any]


def whole(model: Learner) -> str:
    """The digest of a copy that owes nothing to an earlier one."""
    model._mirrors = model._new_mirrors()
    return model.digest()


@pytest.mark.parametrize("shape", [{"kind": "linear"}, {"kind": "fm"}, {"heads": 2}, {"kind": "dcn"}], ids=str)
def test_a_copy_that_was_brought_up_to_date_is_the_copy_made_anew(shape: dict[str, Any]) -> None:
    # Keys come and go, slots come back, tables grow.
    bit_by_bit, anew = (learner(slots=SLOTS, **shape) for _ in range(2))
    for step in range(60):
        for model in (bit_by_bit, anew):
            model.learn(batch(step, 100, time_s=2 * step, users=10 + 4 * step, items=10 + step % 7))
            if step % 3 == 0:
                model.take_delta()
        if step % 5 == 0:
            assert bit_by_bit.digest() == whole(anew)
    assert bit_by_bit.tables[0].slots.capacity > 64 or bit_by_bit.tables[1].slots.capacity > 64


def test_only_what_changed_is_read_again() -> None:
    model = learner()
    for step in range(10):
        model.learn(batch(step, 500, users=1_000, items=1_000))
    model.take_delta()
    model.snapshot()
    read: list[int] = []

    def counted(what: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def reads(rows: Array) -> Array:
            read.append(len(rows))
            return what(rows)

        return reads

    for mirror in model._mirrors:
        mirror._read = counted(mirror._read[0]), mirror._read[1]
    rows = batch(3, 20, users=1_000, items=1_000)
    model.learn(rows)
    model.take_delta()
    model.snapshot()
    used = sum(each.slots.next for each in model.tables)
    assert 20 <= sum(read) < used / 10
    read.clear()
    model.snapshot()
    assert sum(read) == 0


def test_a_snapshot_that_somebody_has_is_not_written_to() -> None:
    model = learner()
    model.learn(batch(0))
    kept = model.snapshot()
    digest = kept.digest()
    model.learn(batch(1))
    later = model.snapshot()
    assert later.digest() != digest == kept.digest()
    assert not any(np.shares_memory(a, b) for a, b in zip(kept.scalars, later.scalars, strict=True))
    ours = later.scalars[0].ctypes.data
    del later
    gc.collect()
    model.learn(batch(2))
    assert model.snapshot().scalars[0].ctypes.data == ours
    assert kept.digest() == digest


def test_a_learner_that_goes_on_from_a_snapshot_copies_all_of_it() -> None:
    model = learner(slots=SLOTS)
    for step in range(5):
        model.learn(batch(step, 100, time_s=step))
    snapshot = model.snapshot()
    other = Learner.of(snapshot)
    assert other.digest() == snapshot.digest()
    other.learn(batch(9, 100, time_s=9))
    model.learn(batch(9, 100, time_s=9))
    assert other.digest() == model.digest()


def test_a_snapshot_of_a_learner_that_goes_on_stays_while_it_learns() -> None:
    model = learner()
    model.learn(batch(0, 500, users=1_000))
    other = Learner.of(model.snapshot())
    kept = other.snapshot()
    digest = kept.digest()
    for step in range(1, 5):
        other.learn(batch(step, 500, users=1_000))
    assert kept.digest() == digest != other.digest()
