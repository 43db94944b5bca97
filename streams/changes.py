"""What the changelog says of one partition's join: only what the inputs can't say again.

The predictions topic holds every open slate and the outcomes topic all that happened to them, so the changelog repeats neither. It says
from where on to read them again, what the clocks read there, the ledger, and the few decisions that depended on which of the two
topics was read first: which outcomes wait for a prediction, which predictions were ignored as repeats, what was let go at a bound.

A record per transaction, key `state`; and a record per block of offsets that changed, keys `waiting/N` and `repeated/N`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct, field

from feedback.errors import CorruptError
from feedback.events import Ledger
from streams.marks import Mark
from streams.rules import Epoch
from streams.store import Header

STATE = b"state"
"""Key of the state record."""

WAITING, REPEATED = "waiting", "repeated"
"""Names of the blocks of offsets."""

_BLOCK = 4096


class State(Struct, frozen=True, kw_only=True):
    """How far the join of a partition has come at a commit."""

    v: int = 1
    predictions: Mark
    """The next prediction to be read, and the clock there."""
    outcomes: Mark
    """The next outcome to be read, and the clock there."""
    low_predictions: Mark
    """No slate that is kept lies before."""
    low_outcomes: Mark
    """No outcome of a kept slate lies before (those that wait may)."""
    lineage: str
    """Names this history: a store on disk with another name belongs to other topics."""
    watermark: int
    """Event time, µs."""
    ledger: Ledger
    """At this commit."""
    epochs: list[Epoch]
    """The rules that kept slates were opened under, and the newest."""
    floor: int = 0
    """Slates before this offset were closed early."""
    evictions: list[tuple[int, int]] = field(default_factory=list)
    """Waiting outcomes before the first offset were let go when the predictions before the second had been read."""

    def goes_on_from(self, header: Header) -> bool:
        """Whether a store is of this history, and not ahead of it. What was shed is not in a store: then it is of no use."""
        same = header.lineage == self.lineage and self.floor <= self.low_predictions.offset
        return same and header.at[0] <= self.predictions.offset and header.at[1] <= self.outcomes.offset


class Offsets:
    """A set of offsets that knows which of its blocks changed since it was last asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocks: dict[int, set[int]] = {}
        self._changed: set[int] = set()

    def add(self, offset: int) -> None:
        """Put an offset in."""
        self._blocks.setdefault(offset // _BLOCK, set()).add(offset)
        self._changed.add(offset // _BLOCK)

    def discard(self, offset: int) -> None:
        """Take an offset out."""
        number = offset // _BLOCK
        block = self._blocks.get(number)
        if block is not None and offset in block:
            block.discard(offset)
            self._changed.add(number)
            if not block:
                del self._blocks[number]

    def forget(self, before: int) -> None:
        """Take out all whole blocks before an offset."""
        for number in [number for number in self._blocks if (number + 1) * _BLOCK <= before]:
            del self._blocks[number]
            self._changed.add(number)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a changelog record back in."""
        number = int(key.rpartition(b"/")[2])
        if value is None:
            self._blocks.pop(number, None)
        else:
            self._blocks[number] = set(msgspec.json.decode(value, type=list[int]))

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The changelog records since the last call."""
        for number in sorted(self._changed):
            block = self._blocks.get(number)
            yield f"{self._name}/{number}".encode(), msgspec.json.encode(sorted(block)) if block else None
        self._changed.clear()

    def __contains__(self, offset: int) -> bool:
        block = self._blocks.get(offset // _BLOCK)
        return block is not None and offset in block

    def __iter__(self) -> Iterator[int]:
        for number in sorted(self._blocks):
            yield from sorted(self._blocks[number])

    def __bool__(self) -> bool:
        return bool(self._blocks)


def read_changes(records: Iterable[tuple[bytes, bytes | None]]) -> tuple[State | None, Offsets, Offsets]:
    """The state, the waiting and the repeated offsets that a partition's changelog says, oldest record first.

    Raises:
        CorruptError: a record is not what `changes` writes.
    """
    state: State | None = None
    waiting, repeated = Offsets(WAITING), Offsets(REPEATED)
    for key, value in records:
        try:
            if key == STATE:
                state = msgspec.json.decode(value, type=State) if value is not None else None
            elif key.startswith(WAITING.encode()):
                waiting.load(key, value)
            else:
                repeated.load(key, value)
        except (ValueError, msgspec.MsgspecError) as error:
            raise CorruptError(f"join-changelog: record {key!r} does not decode: {error}") from error
    return state, waiting, repeated
