"""No two keys ever own a slot, through admission, expiry and growth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.fields import Field, Table
from trainer.settings import Admission, SlotSettings
from trainer.sightings import Exact, Sketch
from trainer.slots import Slots

SECOND = 1_000_000
REST_S, UNSEEN_S = 5, 20


def table(*admissions: Admission) -> Table:
    fields = tuple(Field(f"f{i}", (f"f{i}",), False, a) for i, a in enumerate(admissions))
    return Table("wide", fields, (), 4, 0, True)


def slots(*admissions: Admission, **given: Any) -> Slots:
    wanted: dict[str, Any] = {
        "capacity": 8,
        "rest_s": REST_S,
        "rest_sequences": 2,
        "sweep_rows": 16,
        "counts": "exact",
    } | given
    return Slots(table(*admissions), SlotSettings(**wanted))


def ints(*values: int) -> NDArray[Any]:
    return np.array(values, np.int64)


def see(owned: Slots, keys: list[int], *, time: int, sequence: int, known: dict[int, int]) -> None:
    """What the learner does with the keys of one step, with a plain dict for the hash table."""
    found = np.array(sorted({known[key] for key in keys if key in known}), np.int32)
    owned.touch(found, time)
    new = sorted({key for key in keys if key not in known})
    if new:
        fields = np.array([key % 2 for key in new])
        counts = np.array([keys.count(key) for key in new])
        chosen, got = owned.admit(ints(*new), counts, fields, time=time, sequence=sequence)
        known.update(zip(np.array(new)[chosen].tolist(), got.tolist(), strict=True))
    for key in owned.sweep(time=time, sequence=sequence).tolist():
        del known[key]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(0, 15), st.booleans()),
        max_size=40,
    )
)
def test_no_two_keys_share_a_slot_and_a_slot_rests_between_two(steps: list[tuple[list[int], int, bool]]) -> None:
    owned = slots(Admission(sightings=2, unseen_s=UNSEEN_S), Admission(unseen_s=UNSEEN_S * 2))
    known: dict[int, int] = {}
    served: dict[int, int] = {}
    left: dict[int, tuple[int, int]] = {}
    time = sequence = 0
    for keys, seconds, take in steps:
        time += seconds * SECOND
        before = dict(known)
        see(owned, keys, time=time, sequence=sequence, known=known)
        assert len(set(known.values())) == len(known)
        assert all(owned.reserved <= slot < owned.next <= owned.capacity for slot in known.values())
        assert {key: int(owned.keys[slot]) for key, slot in known.items()} == {key: key for key in known}
        assert owned.owned == len(known)
        for key, slot in known.items():
            if before.get(key) != slot and slot in left:
                since, then = left[slot]
                assert time - since >= REST_S * SECOND and sequence - then >= 2
        left |= {slot: (time, sequence) for key, slot in before.items() if known.get(key) != slot}
        if take:
            removed, admitted, at = owned.take()
            for key in removed.tolist():
                del served[key]
            assert not set(served) & set(admitted.tolist())
            served.update(zip(admitted.tolist(), at.tolist(), strict=True))
            assert served == known
            sequence += 1


def test_a_key_unseen_for_its_field_s_time_gives_its_slot_back() -> None:
    owned = slots(Admission(unseen_s=10), Admission())
    known: dict[int, int] = {}
    see(owned, [2, 3], time=0, sequence=0, known=known)
    see(owned, [4], time=10 * SECOND, sequence=0, known=known)
    assert set(known) == {2, 3, 4}
    see(owned, [4], time=11 * SECOND, sequence=0, known=known)
    assert set(known) == {3, 4}


def test_old_keys_are_found_however_fast_new_ones_come() -> None:
    owned = slots(Admission(unseen_s=10), Admission(unseen_s=10), sweep_rows=8)
    known: dict[int, int] = {}
    for step in range(100):
        see(owned, [4 * step, 4 * step + 1, 4 * step + 2], time=step * SECOND, sequence=step, known=known)
    assert len(known) < 100 and owned.next < 150


def test_a_key_is_admitted_at_its_field_s_number_of_sightings() -> None:
    owned = slots(Admission(sightings=3), Admission())
    known: dict[int, int] = {}
    see(owned, [2, 2, 5], time=0, sequence=0, known=known)
    assert set(known) == {5}
    see(owned, [2], time=0, sequence=0, known=known)
    assert set(known) == {2, 5}


def test_capacity_doubles_and_nothing_is_lost() -> None:
    owned = slots(Admission(), Admission())
    known: dict[int, int] = {}
    for key in range(100):
        see(owned, [key], time=0, sequence=0, known=known)
    assert owned.capacity == 128 and len(set(known.values())) == 100
    assert owned.floor == 64


@pytest.mark.parametrize(("room", "due"), [(1.0, 24), (0.25, 26), (0.0625, 31)])
def test_a_base_is_outgrown_when_it_is_nearly_full_and_the_next_one_has_more(room: float, due: int) -> None:
    owned = slots(Admission(), Admission(), capacity=32, room=room)
    known: dict[int, int] = {}
    while not owned.outgrows(32):
        see(owned, [owned.next], time=0, sequence=0, known=known)
    assert owned.next == due
    assert not owned.outgrows(64)


def test_a_restored_copy_goes_on_like_the_original() -> None:
    admissions = Admission(sightings=2, unseen_s=8), Admission(unseen_s=4)
    random = np.random.default_rng(1)
    original = slots(*admissions)
    known: dict[int, int] = {}
    for step in range(60):
        see(original, random.integers(0, 40, 6).tolist(), time=step * SECOND, sequence=step, known=known)
    copy, copied = slots(*admissions), dict(known)
    copy.restore(original.state())
    for step in range(60, 120):
        keys = random.integers(0, 40, 6).tolist()
        see(original, keys, time=step * SECOND, sequence=step, known=known)
        see(copy, keys, time=step * SECOND, sequence=step, known=copied)
    assert copied == known
    assert {name: array.tolist() for name, array in copy.state().items()} == {
        name: array.tolist() for name, array in original.state().items()
    }


@pytest.mark.parametrize("counter", [Exact(10 * SECOND), Sketch(4096, 10 * SECOND)])
def test_sightings_are_forgotten_by_generations(counter: Exact | Sketch) -> None:
    assert counter.add(ints(7), ints(2), 0).tolist() == [2]
    assert counter.add(ints(7), ints(1), 12 * SECOND).tolist() == [3]
    assert counter.add(ints(7), ints(1), 23 * SECOND).tolist() == [2]
    assert counter.add(ints(7), ints(1), 60 * SECOND).tolist() == [1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=200))
def test_a_sketch_never_says_too_little(keys: list[int]) -> None:
    sketch, exact = Sketch(256, SECOND), Exact(SECOND)
    for key in keys:
        assert sketch.add(ints(key), ints(1), 0)[0] >= exact.add(ints(key), ints(1), 0)[0]
