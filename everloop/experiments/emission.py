"""What the join emits of an impression and when, for arrays of impressions.

The join itself (`streams.join`) takes events one by one; a test feeds it the same log and compares what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feedback.events import NEGATIVE, POSITIVE, REVISION
from newsroom.keyed import Doubles, Integers


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """When labels go out: the two numbers of `streams.settings.JoinSettings` that decide, and the window."""

    hold_s: float
    """How long after its impression a negative goes out, s."""
    positives: Literal["at_once", "at_close"] = "at_once"
    """When a positive goes out: when the click is known, or with the negatives."""
    window_s: float = 1_800.0
    """Attribution window, s: a later click is lost."""


@dataclass(frozen=True)
class Emissions:
    """Examples in the order in which they go out."""

    when: Doubles
    """s."""
    impression: Integers
    """Index of the impression."""
    kind: NDArray[np.int8]
    """NEGATIVE, POSITIVE or REVISION."""

    def __len__(self) -> int:
        return len(self.when)


def emissions(rule: LabelRule, shown: Doubles, delay: Doubles, lateness_s: float = 0.0) -> Emissions:
    """Every example of some impressions. `shown`: when, s; `delay`: seconds from there to the click, inf if there is none.

    `lateness_s`: how much later than its time goes out what the join holds, since it waits for events that are late.
    """
    close = shown + rule.hold_s + (lateness_s if rule.hold_s else 0.0)
    early = (delay <= rule.window_s) & (delay <= rule.hold_s) & (rule.hold_s > 0)
    later = (delay <= rule.window_s) & ~early
    first = np.where(early & (rule.positives == "at_once"), shown + delay, close)
    revised = np.flatnonzero(later)
    # A revision never overtakes its negative, though its click may be known before that goes out.
    when = np.concatenate([first, np.maximum(shown + delay, close)[revised]])
    impression = np.concatenate([np.arange(len(shown)), revised])
    kind = np.concatenate([np.where(early, POSITIVE, NEGATIVE), np.full(len(revised), REVISION)]).astype(np.int8)
    order = np.argsort(when, kind="stable")
    return Emissions(when[order], impression[order], kind[order])
