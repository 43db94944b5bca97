"""Slates as samples with immediate labels: what a trainer learns from when it begins with a log."""

from __future__ import annotations

from collections.abc import Iterator

from everloop.logs.slates import Log, Slate
from feedback.clock import to_us
from feedback.events import NEGATIVE, POSITIVE, Sample


def samples(log: Log, *, limit: int = 0) -> Iterator[Sample]:
    """Yield one sample per slate, in the order of time: all its impressions, each with its final label.

    Whoever learns from them scores a slate whole before it learns any of its labels.
    """
    window_us = to_us(log.mapping.window_s)
    for slate in log.slates(limit=limit):
        yield sample(slate, positive=log.mapping.positive, window_us=window_us)


def sample(slate: Slate, *, positive: str, window_us: int) -> Sample:
    """Label one slate: an item is positive when an outcome of that kind came inside the window."""
    deadline = slate.event_time + window_us
    liked = {each.item for each in slate.outcomes if each.kind == positive and each.event_time <= deadline}
    return Sample(
        sample_id=slate.request_id,
        request_id=slate.request_id,
        user_id=slate.user,
        event_time=slate.event_time,
        settle_time=slate.event_time,
        label_policy=f"logged({positive})",
        emissions=[POSITIVE if item in liked else NEGATIVE for item in slate.items],
        positions=list(range(len(slate.items))),
        items=slate.items,
        context=slate.context,
        features=slate.features,
    )
