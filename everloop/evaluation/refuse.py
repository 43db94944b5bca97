"""What cannot be answered, and the numbers that say so. Better no estimate than one that only looks like one."""

from __future__ import annotations

from collections import Counter

import numpy as np

from everloop.evaluation.logged import Doubles
from everloop.evaluation.recall import CERTAIN, FALLBACK, UNLOGGED
from everloop.evaluation.weights import effective
from feedback.errors import UsageError
from feedback.events import OBSERVED

LEAST = 1_000.0
"""Effective sample size that every slot must have."""
MOST_SILENT = 0.05
"""Share of the slates that may be left out because they say nothing: beyond it, what is left is not the traffic."""
_SUPPORT = 5.0
"""Standard errors by which the mean weight may miss 1."""

_MEANING = {
    FALLBACK: "fallback answers, which no policy chose",
    UNLOGGED: "without propensities",
    CERTAIN: "shown with certainty, so that nothing is known of any other slate",
}


def check_silent(left_out: Counter[str], answered: int, certain: Counter[str]) -> None:
    """Refuse a log of which too much says nothing. Slates that something else chose are no part of the traffic that is asked about.

    Raises:
        UsageError: it is so, or there is no settled slate at all.
    """
    silent = {name: left_out[name] for name in _MEANING if left_out[name]}
    count = sum(silent.values())
    if not answered + count:
        observed = f", {left_out[OBSERVED]:,} were chosen by something else" if left_out[OBSERVED] else ""
        raise UsageError(f"no slate of this range has settled: {left_out['unsettled']} are still open{observed}")
    if count <= MOST_SILENT * (answered + count):
        return
    reasons = "; ".join(f"{number:,} {_MEANING[name]}" for name, number in silent.items())
    names = ", ".join(f"{name or '?'} ({number:,})" for name, number in certain.most_common(3) if number)
    text = f"{count:,} of {answered + count:,} slates say nothing about another policy: {reasons}"
    text += f" (policy {names}: no support, let it explore)" if names else ""
    raise UsageError(f"{text}. At most {MOST_SILENT:.0%} may")


def check_weights(weight: Doubles) -> None:
    """Refuse weights that leave too little, or that are not those of two policies of which one covers the other.

    Raises:
        UsageError: it is so; names the slot and the numbers.
    """
    sizes = effective(weight)
    slot = int(sizes.argmin())
    if sizes[slot] < LEAST:
        every = ", ".join(f"{size:,.0f}" for size in sizes)
        raise UsageError(
            f"effective sample size {sizes[slot]:,.1f} at slot {slot} of {len(weight):,} slates (by slot: {every}): "
            f"{LEAST:,.0f} are needed. Take a longer range, a policy that is nearer to the logged one, or let that one explore more"
        )
    means, errors = weight.mean(axis=0), weight.std(axis=0, ddof=1) / np.sqrt(len(weight))
    away = np.abs(means - 1.0)
    if (wrong := away > _SUPPORT * errors + 1e-9).any():
        slot = int(wrong.argmax())
        raise UsageError(
            f"mean weight {means[slot]:.4f} ± {errors[slot]:.4f} at slot {slot}, expected 1: the logged policy never shows some of "
            "what the other would, or its logged propensities are not its own"
        )
