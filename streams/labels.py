"""The label rule: what a reader did with one item becomes one label and one weight. Pure, and the same in any process.

Outcomes of one item are folded one by one, in the order of their log, into `Evidence`; the rule looks at that and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from streams.settings import LabelSettings


class Evidence(NamedTuple):
    """What is known of one impression."""

    happened: bool = False
    """Whether the kind that makes a positive has come."""
    dwell_s: float = 0.0
    """The longest reading."""
    value: float = 0.0
    """The greatest value of the kind that makes a positive."""


NOTHING = Evidence()
"""An impression that only lies there (or was only seen)."""


class Rule:
    """One label rule, with its parameters.

    >>> rule = Rule(LabelSettings(min_dwell_s=10, weight="dwell", weight_unit=20))
    >>> clicked = rule.fold(NOTHING, "click", 1.0)
    >>> rule.positive(clicked), rule.positive(rule.fold(clicked, "dwell", 30.0))
    (False, True)
    >>> rule.weight(rule.fold(clicked, "dwell", 30.0))
    1.5
    """

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        self.viewed_only = settings.negatives == "viewed"
        self.weighs = settings.weight != "one"

    @property
    def name(self) -> str:
        """The rule in words, as samples carry it."""
        s = self.settings
        condition = s.positive if not s.min_dwell_s else f"{s.positive}&{s.dwell}>={s.min_dwell_s:g}"
        weight = "1" if s.weight == "one" else f"min({s.weight}/{s.weight_unit:g},{s.max_weight:g})"
        return f"positive({condition}) weight({weight}) negatives({s.negatives})"

    def fold(self, evidence: Evidence, kind: str, value: float) -> Evidence:
        """What is known once one more outcome has come. The same in any order but for when the label turns."""
        happened, dwell_s, greatest = evidence
        if kind == self.settings.positive:
            happened, greatest = True, max(greatest, value)
        if kind == self.settings.dwell:
            dwell_s = max(dwell_s, value)
        return Evidence(happened, dwell_s, greatest)

    def positive(self, evidence: Evidence) -> bool:
        """Whether the label is 1."""
        return evidence.happened and evidence.dwell_s >= self.settings.min_dwell_s

    def weight(self, evidence: Evidence) -> float:
        """The weight of a positive: above 0, at most `max_weight`. A negative's is 1."""
        s = self.settings
        if s.weight == "one":
            return 1.0
        size = evidence.dwell_s if s.weight == "dwell" else evidence.value
        return min(max(size / s.weight_unit, 0.0), s.max_weight)
