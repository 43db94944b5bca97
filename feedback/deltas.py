"""The header of a delta: all that the follower needs to know of what it carries. The value itself is opaque to everybody
but the model's own graph.

On Kafka a header travels as one record header, `everloop-delta`, of JSON bytes; the record's key is the model line.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from feedback.codec import translate

HEADER: Final = "everloop-delta"
"""The name of the Kafka record header."""


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """One training step: the samples it took, as offsets per partition. A continued or replayed run takes the same steps."""

    step: int
    """Number of the step in the line, from 1."""
    offsets: dict[int, int]
    """Per partition of samples, the next offset after the step. Partitions that the step did not touch are left out."""
    examples: int
    """Examples that the step took in."""
    partial: dict[int, int] = field(default_factory=dict)
    """Where a step ends inside a sample: examples of the sample at that offset already taken, per partition."""


class DeltaHeader(Struct, frozen=True, kw_only=True):
    """What a record of the deltas topic says about itself."""

    line: str
    """The model line (model name and feature-spec digest)."""
    kind: Literal["rows", "checksum"] = "rows"
    """`rows`: feed the value to signature `sync`. `checksum`: feed it to signature `checksum` and compare with `expected`."""
    epoch: int
    """The line's epoch; a lower one than the reader has seen is refused."""
    previous: int
    """The sequence that this delta follows on (a checksum: the sequence at which it holds)."""
    sequence: int
    """The sequence that the model has reached once it is applied (a checksum: the same as `previous`)."""
    part: int = 1
    """This record is part n …"""
    parts: int = 1
    """… of m: joined in order they are the value; applied whole or not at all."""
    crc32c: int
    """CRC-32C of this record's value."""
    expected: int = 0
    """For a checksum: what the model must answer."""
    steps: list[Step] = field(default_factory=list)
    """The steps whose result it carries."""
    watermark: int = 0
    """Event time up to which the learned labels are complete (the least of the partitions), µs."""
    sent_times: list[int] = field(default_factory=list)
    """`sent_time` of at most 64 outcomes that it learned from, µs."""
    trained_time: int = 0
    """Wall clock when the last of its steps was taken, µs."""
    digest: str = ""
    """Digest of the trainer's state after it, for a continued run to compare."""

    def record_headers(self) -> list[tuple[str, bytes]]:
        """The Kafka record headers that carry this."""
        return [(HEADER, msgspec.json.encode(self))]


def read_header(headers: list[tuple[str, bytes]] | tuple[tuple[str, bytes], ...]) -> DeltaHeader:
    """Read the header from a record's Kafka headers.

    Raises:
        DecodeError: there is none, or it is not as the contract says.
    """
    raw = next((value for name, value in headers if name == HEADER), b"")
    try:
        return msgspec.json.decode(raw, type=DeltaHeader)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise translate(error) from error
