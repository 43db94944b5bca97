"""How a trainer goes on after it was killed: from the newest whole checkpoint, through exactly the steps published since.

Each recorded step is taken again from the samples topic and each delta compared with the published one, byte for byte. Nothing
is published twice. Where a delta differs (another kind of machine, samples lost) the line goes on in a new epoch, with a base.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from feedback.deltas import DeltaHeader, Step
from feedback.errors import CorruptError, DivergedError
from trainer.consume import Reader, weight
from trainer.loop import Loop
from trainer.observe import log
from trainer.publish import Published
from trainer.steps import Steps, Take

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Retaken:
    """What taking the published steps again came to."""

    deltas: int
    """Deltas whose steps were taken again."""
    diverged: str
    """Why the line can't go on in its epoch; empty when every delta was the same."""


def retake(
    published: Iterable[Published],
    *,
    loop: Loop,
    steps: Steps,
    reader: Reader,
    now: int,
    note: Callable[[int, int], None] = lambda sequence, offset: None,
) -> Retaken:
    """Take the steps of published deltas again; `published` is in order, of the loop's epoch, after its sequence.

    `note` is told each delta's sequence and offset.
    """
    count, diverged = 0, ""
    for each in published:
        header = each.header
        if header.kind != "rows":
            continue
        note(header.sequence, each.offset)
        count += 1
        try:
            for step in header.steps:
                loop.step(_recorded(step, steps, reader))
            (_, value), *_ = loop.cut(now) or [(header, b"")]
            _compare(header, each.value, value, loop)
        except (CorruptError, DivergedError) as error:
            diverged = str(error)
            log("diverged", level="error", sequence=header.sequence, reason=diverged)
            break
    return Retaken(count, diverged)


def _compare(header: DeltaHeader, published: bytes, value: bytes, loop: Loop) -> None:
    if published != value or header.digest != loop.learner.chain():
        raise DivergedError(
            f"delta {header.sequence}: taken again it has {len(value)} bytes and digest {loop.learner.chain()[:12]}, "
            f"published it had {len(published)} bytes and digest {header.digest[:12]}"
        )


def _recorded(step: Step, steps: Steps, reader: Reader) -> Take:
    give_up = time.monotonic() + _PATIENCE_S
    while (take := steps.retake(step, time.monotonic())) is None:
        if time.monotonic() > give_up:
            raise CorruptError(f"step {step.step}: its samples up to {step.offsets} are not in the topic any more")
        found = reader.drain(0.2)
        for record in found:
            steps.offer(record, time.monotonic())
        if not found:
            # What is missing may stand behind what fills the memory: let more in.
            reader.widen()
    reader.release(sum(weight(record) for record in take.records))
    return take
