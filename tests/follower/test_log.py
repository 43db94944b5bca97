"""Whole deltas out of records."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from feedback.deltas import DeltaHeader
from feedback.errors import CorruptError


def header(part: int, parts: int, value: bytes = b"", sequence: int = 1) -> DeltaHeader:
    return DeltaHeader(
        line="a", epoch=1, previous=sequence - 1, sequence=sequence, part=part, parts=parts, crc32c=crc32c(value)
    )


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)), max_size=20))
def test_only_parts_in_order_and_all_of_them_make_a_delta(records: list[tuple[int, int, int]]) -> None:
    from serving.follower.log import Assembler

    assembler, run = Assembler(), []  # type: ignore[var-annotated]
    for offset, (part, parts, sequence) in enumerate(records):
        whole = assembler.take(header(part, parts, sequence=sequence), bytes([part]), offset)
        run = [*run, (part, parts, sequence)] if part > 1 else [(part, parts, sequence)]
        complete = [(number, parts, sequence) for number in range(1, parts + 1)]
        if whole is not None:
            assert run[-parts:] == complete
            assert whole.value == bytes(range(1, parts + 1))
        elif part <= parts:
            assert run != complete


def test_a_damaged_record_is_noticed() -> None:
    from serving.follower.log import check

    check(header(1, 1, b"abc"), b"abc")
    with pytest.raises(CorruptError, match="CRC-32C"):
        check(header(1, 1, b"abc"), b"abd")
    with pytest.raises(CorruptError, match="part 3 of 2"):
        check(header(3, 2, b"abc"), b"abc")
