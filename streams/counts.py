"""Per-item and per-reader counts of one partition: pure, from the records of two topics to the fields that Redis shall hold.

Impressions come from predictions, clicks and reads from samples (so a click is what the label rule calls a positive, once). A field is a
function of one partition of one topic up to an offset; an entry that has that offset behind it ignores the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from feedback import state
from feedback.state import Count
from streams.settings import StateSettings


class _Prediction(Struct, tag_field="type", tag="prediction", gc=False):
    event_time: int
    items: list[str]


class _Sample(Struct, tag_field="type", tag="sample", gc=False):
    user_id: str
    event_time: int
    emissions: list[int]
    items: list[str]


_PREDICTION: Final = msgspec.json.Decoder(_Prediction)
_SAMPLE: Final = msgspec.json.Decoder(_Sample)

Row = tuple[int, int, bytes | None]
"""Offset, Kafka's timestamp in milliseconds, value."""

Key = tuple[str, str]
"""Redis key and field."""


class Impressions(Struct, gc=False):
    """Impressions of one item."""

    offset: int
    count: Count
    first_seen: int

    def encode(self, half_life_s: float) -> bytes:
        """The field's bytes."""
        return state.encode_impressions(
            offset=self.offset, count=self.count, half_life_s=half_life_s, first_seen=self.first_seen
        )


class Clicks(Struct, gc=False):
    """Clicks of one item."""

    offset: int
    count: Count

    def encode(self, half_life_s: float) -> bytes:
        """The field's bytes."""
        return state.encode_clicks(offset=self.offset, count=self.count, half_life_s=half_life_s)


class Reads(Struct, gc=False):
    """What one reader read."""

    offset: int
    count: Count
    last: list[tuple[int, str]]

    def encode(self, half_life_s: float) -> bytes:
        """The field's bytes."""
        return state.encode_reads(offset=self.offset, count=self.count, half_life_s=half_life_s, last=self.last)


Entry = Impressions | Clicks | Reads


class Event(Struct, gc=False):
    """What one record says, before anything is counted."""

    offset: int
    time: int
    received: int
    """When Kafka received the record, µs: an event far ahead of that is left out, as the join refuses it."""
    user: str
    """Empty for impressions."""
    items: list[str]


def impressions(records: Iterable[Row]) -> Iterator[Event]:
    """Read predictions; what is none (ticks, malformed bytes) is skipped: the join refuses it."""
    for offset, timestamp, value in records:
        try:
            event = _PREDICTION.decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        yield Event(offset, event.event_time, timestamp * 1000, "", event.items)


def clicks(records: Iterable[Row]) -> Iterator[Event]:
    """Read samples; those without a positive are skipped."""
    for offset, timestamp, value in records:
        try:
            event = _SAMPLE.decode(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        items = [item for item, emission in zip(event.items, event.emissions, strict=False) if emission > 0]
        if items:
            yield Event(offset, event.event_time, timestamp * 1000, event.user_id, items)


class Counts:
    """The counts of the partitions that this process has, as far as they were needed."""

    def __init__(self, settings: StateSettings, namespace: str) -> None:
        self.settings, self.namespace = settings, namespace
        self.entries: dict[Key, Entry | None] = {}
        self.dirty: set[Key] = set()

    def wanted(self, partition: int, events: Iterable[Event]) -> list[Key]:
        """The fields that these events touch and that have to be read from Redis first, each once."""
        keys = {key: None for event in events for key in self._keys(partition, event)}
        return [key for key in keys if key not in self.entries]

    def load(self, keys: Iterable[Key], values: Iterable[bytes | None]) -> None:
        """Take in what Redis holds of those fields."""
        for key, value in zip(keys, values, strict=True):
            self.entries[key] = _decode(key[1], value) if value is not None else None

    def count(self, partition: int, events: Iterable[Event]) -> None:
        """Count events whose fields have been loaded."""
        for event in events:
            if event.user:
                self._clicks(partition, event)
            else:
                self._impressions(partition, event)

    def changes(self) -> dict[str, list[tuple[str, bytes]]]:
        """Redis key to fields and values, of what changed since the last call."""
        found: dict[str, list[tuple[str, bytes]]] = {}
        half_life_s = self.settings.half_life_s
        for key, field in self.dirty:
            entry = self.entries[key, field]
            assert entry is not None
            found.setdefault(key, []).append((field, entry.encode(half_life_s)))
        self.dirty.clear()
        return found

    def forget(self, most: int) -> None:
        """Keep at most so many entries in memory: those loaded last. Call it when nothing is dirty."""
        for key in list(self.entries)[: max(0, len(self.entries) - most)]:
            del self.entries[key]

    def _keys(self, partition: int, event: Event) -> Iterator[Key]:
        field = state.clicks_field(partition) if event.user else state.impressions_field(partition)
        for item in event.items:
            yield state.item_key(self.namespace, item), field
        if event.user:
            yield state.user_key(self.namespace, event.user), state.reads_field(partition)

    def _impressions(self, partition: int, event: Event) -> None:
        field, half_life_s = state.impressions_field(partition), self.settings.half_life_s
        for item in event.items:
            key = (state.item_key(self.namespace, item), field)
            entry = self.entries[key]
            if entry is None:
                self.entries[key] = Impressions(event.offset, Count(event.time, 1.0), event.time)
            elif event.offset > entry.offset:
                assert isinstance(entry, Impressions)
                entry.offset, entry.count = event.offset, entry.count.add(event.time, half_life_s)
                entry.first_seen = min(entry.first_seen, event.time)
            else:
                continue
            self.dirty.add(key)

    def _clicks(self, partition: int, event: Event) -> None:
        half_life_s = self.settings.half_life_s
        for item in event.items:
            key = (state.item_key(self.namespace, item), state.clicks_field(partition))
            entry = self.entries[key]
            if entry is not None and event.offset <= entry.offset:
                continue
            count = entry.count if entry is not None else Count()
            self.entries[key] = Clicks(event.offset, count.add(event.time, half_life_s))
            self.dirty.add(key)
        key = (state.user_key(self.namespace, event.user), state.reads_field(partition))
        known = self.entries[key]
        if known is not None and event.offset <= known.offset:
            return
        count, last = Count(), list[tuple[int, str]]()
        if known is not None:
            assert isinstance(known, Reads)
            count, last = known.count, known.last
        for item in event.items:
            count = count.add(event.time, half_life_s)
            last = [(event.time, item), *(pair for pair in last if pair[1] != item)]
        last.sort(key=lambda pair: -pair[0])
        self.entries[key] = Reads(event.offset, count, last[: self.settings.last_items])
        self.dirty.add(key)


def _decode(field: str, value: bytes) -> Entry:
    if field[0] == "i":
        offset, count, _, first_seen = state.read_impressions(value)
        return Impressions(offset, count, first_seen)
    if field[0] == "c":
        offset, count, _ = state.read_clicks(value)
        return Clicks(offset, count)
    offset, count, _, last = state.read_reads(value)
    return Reads(offset, count, last)
