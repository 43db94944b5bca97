"""Which delta fits on which model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from feedback.deltas import DeltaHeader
from serving.follower.order import Position, Rule, Verdict, judge

HEADER = DeltaHeader(line="a", epoch=2, previous=10, sequence=11, crc32c=0, trained_time=100)


@dataclass
class Case:
    """A header, a place, a verdict."""

    what: str
    verdict: Verdict
    at: Position = Position(2, 10)
    header: dict[str, Any] = field(default_factory=dict)
    rule: Rule = Rule()


CASES = [
    Case("it follows on the model", Verdict.APPLY),
    Case("it was applied", Verdict.PASS, Position(2, 11)),
    Case("one is missing before it", Verdict.GAP, Position(2, 9)),
    Case("it begins before the model and ends after it", Verdict.GAP, Position(2, 10), {"previous": 9}),
    Case("of an epoch that is over", Verdict.PASS, Position(3, 5)),
    Case("of a higher epoch", Verdict.NEWER, Position(1, 10)),
    Case("below the floor", Verdict.PASS, rule=Rule(floor=3)),
    Case("frozen", Verdict.HELD, rule=Rule(frozen=True)),
    Case("trained after the pause", Verdict.HELD, rule=Rule(until=99)),
    Case("trained before the pause", Verdict.APPLY, rule=Rule(until=100)),
    Case("beyond where the label moves", Verdict.HELD, rule=Rule(limit=10)),
    Case("up to where the label moves", Verdict.APPLY, rule=Rule(limit=11)),
    Case("a checksum that holds here", Verdict.CHECK, Position(2, 11), {"kind": "checksum", "previous": 11}),
    Case("a checksum of before", Verdict.PASS, Position(2, 12), {"kind": "checksum", "previous": 11}),
    Case("a checksum of later", Verdict.PASS, Position(2, 10), {"kind": "checksum", "previous": 11}),
]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_verdicts(case: Case) -> None:
    assert judge(replace(HEADER, **case.header), case.at, case.rule) is case.verdict


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 5))
def test_in_whatever_order_deltas_come_each_is_applied_once_and_in_order(order: list[int], start: int) -> None:
    at, applied = Position(2, start), []
    for number in order:
        header = replace(HEADER, previous=number, sequence=number + 1)
        if judge(header, at, Rule()) is Verdict.APPLY:
            applied.append(number + 1)
            at = Position(2, number + 1)
    assert applied == list(range(start + 1, start + 1 + len(applied)))
