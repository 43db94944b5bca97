"""The examples in docstrings hold."""

from __future__ import annotations

import doctest

from everloop.runtime import parts


def test_the_examples_of_parts_hold() -> None:
    results = doctest.testmod(parts)
    assert results.attempted >= 2
    assert results.failed == 0
