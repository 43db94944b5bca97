"""What `Rows` works out without numpy's own function, against numpy's own function."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.rows import _alike


@given(st.lists(st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60))
def test_equal_keys_are_counted_as_numpy_counts_them(keys: list[int]) -> None:
    told = np.array(keys, np.int64)

    expected = np.unique(told, return_index=True, return_inverse=True, return_counts=True)

    for ours, theirs in zip(_alike(told), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
