"""Notes of marked rows say what a look at the whole mask says, whatever was marked and unmarked since."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.noted import SPARSE, Noted

ROWS = 4 * SPARSE

_some = st.lists(st.integers(0, ROWS - 1), max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["mark", "unmark", "list", "forget"]), _some), max_size=30))
def test_what_is_noted_is_what_the_mask_says(steps: list[tuple[str, list[int]]]) -> None:
    mask, noted = np.zeros(ROWS, np.bool_), Noted()
    mask[:3] = True
    for what, numbers in steps:
        rows = np.array(numbers, np.int32)
        if what == "mark":
            mask[rows] = True
            noted.add(rows, among=ROWS)
        elif what == "unmark":
            mask[rows] = False
        elif what == "forget":
            noted.forget()
        else:
            _same(noted, mask)
    _same(noted, mask)


def test_few_rows_are_found_without_a_look_at_the_others() -> None:
    mask, noted = np.zeros(ROWS, np.bool_), Noted()
    noted.marked(mask)
    mask[7] = mask[9] = True
    noted.add(np.array([7]), among=ROWS)
    assert noted.marked(mask).tolist() == [7], "9 was marked behind its back, and is not looked for"


def test_many_rows_are_looked_for_in_the_mask() -> None:
    mask, noted = np.zeros(ROWS, np.bool_), Noted()
    noted.marked(mask)
    mask[:10] = True
    noted.add(np.arange(9), among=ROWS)
    assert noted.marked(mask).tolist() == list(range(10))


def _same(noted: Noted, mask: np.ndarray) -> None:
    found = noted.marked(mask)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.flatnonzero(mask))
