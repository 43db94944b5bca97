"""An explanation in words."""

from __future__ import annotations

from datetime import UTC, datetime

from everloop.steer.explain import Explanation, Labelled, Learned, Place, Served
from feedback.events import OBSERVED

EMISSIONS = ("negative", "positive", "revision")


def told(found: Explanation) -> list[str]:
    """Lines for a person."""
    served = found.served
    lines = [
        f"request {served.request_id} of user {served.user_id}",
        _shown(served),
        f"  recorded    {_place('predictions', served.place)}",
    ]
    if served.version:
        lines.append(
            f"  served by   {served.model} version {served.version}, epoch {served.epoch}, sequence {served.sequence}"
        )
    if found.learned:
        lines += _learned(found.learned)
    if found.note:
        lines.append(f"  note        {found.note}")
    lines.append("what the reader did" if found.outcomes else "what the reader did: nothing that is in the log")
    lines += [
        f"  {o.kind} {o.value:g} on {o.item_id} at {_time(o.event_time)}, {_place('outcomes', o.place)}"
        for o in found.outcomes
    ]
    lines.append("what it taught" if found.samples else "what it taught: no sample yet")
    for sample in found.samples:
        lines += _sample(sample)
    return lines


def _shown(served: Served) -> str:
    if served.policy == OBSERVED:
        return f"  observed    {_time(served.event_time)} with {len(served.items)} items, chosen elsewhere"
    policy = served.policy or "(none named)"
    return f"  answered    {_time(served.event_time)} with {len(served.items)} items by policy {policy}"


def _learned(learned: Learned) -> list[str]:
    complete = "" if learned.complete else " (some are no longer in the log)"
    offsets = ", ".join(f"{partition}: {offset}" for partition, offset in sorted(learned.offsets.items()))
    return [
        f"  line        {learned.line}, as exported at sequence {learned.base_sequence} and {learned.deltas} deltas{complete}",
        f"  had learned samples up to offsets {{{offsets}}}, labels complete up to {_time(learned.watermark)}",
        f"  from        checkpoint {learned.checkpoint or '(none)'}, everloop {learned.code_version or 'unknown'}",
    ]


def _sample(sample: Labelled) -> list[str]:
    kinds = {kind: sample.emissions.count(kind) for kind in sorted(set(sample.emissions))}
    what = ", ".join(f"{count} {EMISSIONS[kind]}" for kind, count in kinds.items())
    lines = [f"  sample {sample.sample_id}: {what} ({sample.label_policy}), {_place('samples', sample.place)}"]
    for taught in sample.taught:
        doubt = "" if taught.certain else ", or by one before it that is no longer in the log"
        step = f"epoch {taught.epoch}, step {taught.step}, {_time(taught.trained_time)}"
        lines.append(f"    carried by delta {taught.sequence} ({step}){doubt}")
    return lines if sample.taught else [*lines, "    not learned yet, or by deltas that are no longer in the log"]


def _place(topic: str, place: Place) -> str:
    return f"{topic}[{place.partition}] at offset {place.offset}"


def _time(micros: int) -> str:
    return (
        datetime.fromtimestamp(micros / 1e6, UTC).isoformat(sep=" ", timespec="milliseconds") if micros else "(unknown)"
    )
