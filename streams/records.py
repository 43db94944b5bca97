"""What passes in and out of the machine: records of the inputs, refusals, and what a feeding brought."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct, field


class Record(Protocol):
    """A record of an input topic, as Kafka's clients give it."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def timestamp(self) -> int:
        """When Kafka received it, milliseconds."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its value."""


class Refusal(Struct, gc=False):
    """A record that goes to the dead letters."""

    prediction: bool
    """Whether it stood in the predictions topic (else: outcomes)."""
    record: Record
    reason: str
    detail: str


class Round(Struct):
    """What came out of one feeding."""

    samples: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    """Request id and Sample record, in order."""
    refusals: list[Refusal] = field(default_factory=list)
    """Dead letters."""
    fed: int = 0
    """Records read that were not ticks."""
