"""Logs as the gateway writes them: its own policies draw, readers click with known probabilities."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feedback.clock import SECOND
from feedback.events import EventId, ItemId, Outcome, Prediction, RequestId, Unshown, UserId
from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates
from serving.gateway.settings import PolicySettings

START = 1_700_000_000 * SECOND
"""Event time of the first request, µs; one comes every second."""
ITEMS = tuple("abcdef")
ATTRACTION = dict(zip(ITEMS, (0.5, 0.4, 0.3, 0.2, 0.1, 0.05), strict=True))


@dataclass(frozen=True)
class Told:
    """One request's events."""

    prediction: Prediction
    outcomes: list[Outcome]


def log(policy: PolicySettings, count: int, *, slots: int = 2, items: Sequence[str] = ITEMS) -> Iterator[Told]:
    """Requests one after another. Scores are the attraction, a little wrong; what is shown is clicked a minute later, or not."""
    mixture, luck = choose(policy), random.Random(7)
    for k in range(count):
        scores = [ATTRACTION[item] * luck.uniform(0.6, 1.4) for item in items]
        decision = mixture.decide(Candidates(items, scores), slots, f"r{k}")
        at = START + k * SECOND
        hidden = [i for i in range(len(items)) if i not in decision.slate]
        shown = [items[i] for i in decision.slate]
        yield Told(
            Prediction(
                request_id=RequestId(f"r{k}"),
                user_id=UserId(f"u{k % 997}"),
                event_time=at,
                sent_time=at,
                items=shown,
                scores=[scores[i] for i in decision.slate],
                propensities=decision.prefixes,
                unshown=Unshown(items=[items[i] for i in hidden], scores=[scores[i] for i in hidden]),
                policy=decision.policy,
            ),
            [click(f"r{k}", item, at + 60 * SECOND) for item in shown if luck.random() < ATTRACTION[item]],
        )


def click(request: str, item: str, at: int, kind: str = "click", value: float = 1.0) -> Outcome:
    """One outcome."""
    return Outcome(
        event_id=EventId(f"{request}/{item}/{kind}"),
        request_id=RequestId(request),
        item_id=ItemId(item),
        kind=kind,
        value=value,
        event_time=at,
        sent_time=at,
    )
