from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everloop.logs.groups import by_column, by_gap

Rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 500)), min_size=1, max_size=60)


def slates(order: np.ndarray, starts: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(order, starts[1:])]


@given(rows=Rows, gap=st.integers(1, 60), most=st.integers(1, 8))
def test_rows_of_one_user_form_a_slate_while_each_follows_closely(
    rows: list[tuple[int, int]], gap: int, most: int
) -> None:
    user, time = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    found = slates(*by_gap(user, time, gap_us=gap, most=most))
    assert sorted(row for slate in found for row in slate) == list(range(len(rows)))
    for slate in found:
        assert len(slate) <= most
        assert len({int(user[row]) for row in slate}) == 1
        assert all(0 <= time[b] - time[a] <= gap for a, b in pairwise(slate))
    firsts = [int(time[slate[0]]) for slate in found]
    assert firsts == sorted(firsts)
    # Slates of one user are as long as they may be: where one ends before `most`, the next begins after a gap.
    for reader in set(user.tolist()):
        own = [slate for slate in found if user[slate[0]] == reader]
        for one, after in pairwise(own):
            assert len(one) == most or time[after[0]] - time[one[-1]] > gap


@given(rows=Rows, most=st.integers(1, 8))
def test_rows_with_one_slate_stand_together_in_the_order_of_first_times(rows: list[tuple[int, int]], most: int) -> None:
    name, time = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    found = slates(*by_column(name, time, most=most))
    assert sorted(row for slate in found for row in slate) == list(range(len(rows)))
    assert all(len({int(name[row]) for row in slate}) == 1 and len(slate) <= most for slate in found)
    first = {int(each): int(time[name == each].min()) for each in name}
    order = [first[int(name[slate[0]])] for slate in found]
    assert order == sorted(order)
