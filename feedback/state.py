"""The real-time features in Redis: which keys, how their values are packed, and how state becomes feature values.

The streams part writes, the gateway reads. Every number is absolute, never an increment, and stands beside the offset of the
input record up to which it holds, so that a writer that reads its input twice changes nothing. Requests are spread over
partitions by request id, an item's counts therefore too: each partition has a field of its own in the item's hash, and a reader
adds the fields up.

    {namespace}item:{item_id}   hash   i{p}  impressions of partition p: offset, time, decayed count, half-life, first seen
                                       c{p}  clicks of partition p: offset, time, decayed count, half-life
    {namespace}user:{user_id}   hash   r{p}  reads of partition p: offset, time, decayed count, half-life; then time and item
                                             of the newest ones, newest first
    {namespace}pool:fresh       zset   item by the time it was first seen, µs
    {namespace}pool:popular     zset   item by log2 of its decayed clicks, moved to a common time (see `heat`)

The first 8 bytes of every field are the offset, little-endian, so that a script in Redis can compare it. Decay goes by event time:
a count of half-life h that was v at time t is v · 2^((t - now) / h).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from feedback.clock import SECOND
from feedback.errors import CorruptError
from feedback.events import Value

POOL_FRESH: Final = "pool:fresh"
"""Suffix of the sorted set of the newest items; score: when first seen, µs."""

POOL_POPULAR: Final = "pool:popular"
"""Suffix of the sorted set of the items clicked most of late; score: `heat`."""

LAST_ITEMS: Final = 10
"""How many of a reader's last items `user_features` shows."""

PRIOR_CLICKS, PRIOR_IMPRESSIONS = 1.0, 20.0
"""What `item_ctr` adds to clicks and impressions, so that an item shown once is neither 0 nor 1."""

ITEM_FEATURES: Final = ("item_impressions", "item_clicks", "item_ctr", "item_age_s", "item_age_bucket")
"""Names of what `item_features` answers: what a Feature of source `item_state` can be called."""

USER_FEATURES: Final = ("user_clicks", "user_last_item", "user_last_items")
"""Names of what `user_features` answers: what a Feature of source `user_state` can be called."""

_COUNT: Final = struct.Struct("<qqdd")
_IMPRESSIONS: Final = struct.Struct("<qqddq")
_READS: Final = msgspec.msgpack.Decoder(list[tuple[int, str]])


class Count(NamedTuple):
    """A decaying count: `value` as it stood at `time`. Adding is the same in any order."""

    time: int = 0
    """Event time of the newest event in it, µs."""
    value: float = 0.0
    """The count at that time."""

    def add(self, time: int, half_life_s: float, weight: float = 1.0) -> Count:
        """The count with one more event of that event time."""
        if time >= self.time:
            return Count(time, self.at(time, half_life_s) + weight)
        return Count(self.time, self.value + weight * math.exp2((time - self.time) / (half_life_s * SECOND)))

    def at(self, now_us: int, half_life_s: float) -> float:
        """The count as it stands at `now_us`; a time before the newest event reads like that event's."""
        if not self.value:
            return 0.0
        return self.value * math.exp2(min(self.time - now_us, 0) / (half_life_s * SECOND))


@dataclass(frozen=True, slots=True)
class ItemState:
    """What is known of one item, over all partitions."""

    impressions: tuple[tuple[Count, float], ...] = ()
    """Per partition the decaying count of impressions, and its half-life in seconds."""
    clicks: tuple[tuple[Count, float], ...] = ()
    """Per partition the decaying count of positives, and its half-life in seconds."""
    first_seen: int = 0
    """Event time of the item's first impression, µs; 0: never seen."""


@dataclass(frozen=True, slots=True)
class UserState:
    """What is known of one reader, over all partitions."""

    clicks: tuple[tuple[Count, float], ...] = ()
    """Per partition the decaying count of positives, and its half-life in seconds."""
    last: tuple[str, ...] = ()
    """The items read last, newest first, each once."""


def item_key(namespace: str, item_id: str) -> str:
    """The key of an item's hash."""
    return f"{namespace}item:{item_id}"


def user_key(namespace: str, user_id: str) -> str:
    """The key of a reader's hash."""
    return f"{namespace}user:{user_id}"


def pool_key(namespace: str, pool: str) -> str:
    """The key of a pool: POOL_FRESH or POOL_POPULAR."""
    return f"{namespace}{pool}"


def impressions_field(partition: int) -> str:
    """The field of an item's hash with the impressions of one partition."""
    return f"i{partition}"


def clicks_field(partition: int) -> str:
    """The field of an item's hash with the clicks of one partition."""
    return f"c{partition}"


def reads_field(partition: int) -> str:
    """The field of a reader's hash with the reads of one partition."""
    return f"r{partition}"


def encode_impressions(*, offset: int, count: Count, half_life_s: float, first_seen: int) -> bytes:
    """Pack a field of impressions. `offset`: of the newest prediction in it."""
    return _IMPRESSIONS.pack(offset, count.time, count.value, half_life_s, first_seen)


def encode_clicks(*, offset: int, count: Count, half_life_s: float) -> bytes:
    """Pack a field of clicks. `offset`: of the newest sample in it."""
    return _COUNT.pack(offset, count.time, count.value, half_life_s)


def encode_reads(*, offset: int, count: Count, half_life_s: float, last: Sequence[tuple[int, str]]) -> bytes:
    """Pack a field of reads. `last`: event time and item, newest first."""
    return _COUNT.pack(offset, count.time, count.value, half_life_s) + msgspec.msgpack.encode(last)


def read_impressions(data: bytes) -> tuple[int, Count, float, int]:
    """Unpack a field of impressions: offset, count, half-life in seconds, first seen."""
    offset, time, value, half_life_s, first_seen = _unpack(_IMPRESSIONS, data)
    return offset, Count(time, value), half_life_s, first_seen


def read_clicks(data: bytes) -> tuple[int, Count, float]:
    """Unpack a field of clicks: offset, count, half-life in seconds."""
    offset, time, value, half_life_s = _unpack(_COUNT, data)
    return offset, Count(time, value), half_life_s


def read_reads(data: bytes) -> tuple[int, Count, float, list[tuple[int, str]]]:
    """Unpack a field of reads: offset, count, half-life in seconds, and the newest reads."""
    offset, time, value, half_life_s = _unpack(_COUNT, data)
    try:
        last = _READS.decode(data[_COUNT.size :])
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise CorruptError(f"redis: a field of reads does not decode: {error}") from error
    return offset, Count(time, value), half_life_s, last


def decode_item(fields: Mapping[bytes, bytes]) -> ItemState:
    """Add up an item's hash as HGETALL answers it. An empty one is an item never seen.

    Raises:
        CorruptError: a field is not what this module writes.
    """
    impressions, clicks, first_seen = [], [], 0
    for name, data in fields.items():
        if name[:1] == b"i":
            _, count, half_life_s, first = read_impressions(data)
            impressions.append((count, half_life_s))
            first_seen = min(first_seen or first, first)
        elif name[:1] == b"c":
            _, count, half_life_s = read_clicks(data)
            clicks.append((count, half_life_s))
    return ItemState(impressions=tuple(impressions), clicks=tuple(clicks), first_seen=first_seen)


def decode_user(fields: Mapping[bytes, bytes], limit: int = LAST_ITEMS) -> UserState:
    """Add up a reader's hash as HGETALL answers it. An empty one is a reader never seen.

    Raises:
        CorruptError: a field is not what this module writes.
    """
    clicks, reads = [], []
    for name, data in fields.items():
        if name[:1] == b"r":
            _, count, half_life_s, last = read_reads(data)
            clicks.append((count, half_life_s))
            reads.extend(last)
    reads.sort(reverse=True)
    return UserState(clicks=tuple(clicks), last=tuple(dict.fromkeys(item for _, item in reads))[:limit])


def item_features(state: ItemState, now_us: int) -> dict[str, Value]:
    """Features of one item at `now_us` (event time of the request). An item never seen has counts 0 and age 0."""
    impressions = _total(state.impressions, now_us)
    clicks = _total(state.clicks, now_us)
    age_s = max(0, now_us - state.first_seen) / SECOND if state.first_seen else 0.0
    return {
        "item_impressions": impressions,
        "item_clicks": clicks,
        "item_ctr": (clicks + PRIOR_CLICKS) / (impressions + PRIOR_IMPRESSIONS),
        "item_age_s": age_s,
        "item_age_bucket": str(int(math.log2(1.0 + age_s / 60.0))),
    }


def user_features(state: UserState, now_us: int) -> dict[str, Value]:
    """Features of one reader at `now_us` (event time of the request). A reader never seen has none: "", [] and 0."""
    return {
        "user_clicks": _total(state.clicks, now_us),
        "user_last_item": state.last[0] if state.last else "",
        "user_last_items": list(state.last),
    }


def heat(count: float, time: int, half_life_s: float) -> float:
    """Score of an item in the popular pool: log2 of its count, plus the half-lives since the epoch. Two scores compare now as
    the decayed counts would at any later time, so that nothing need be written for what merely cools.

    Source: forward decay, Cormode et al., ICDE 2009.
    """
    return math.log2(count) + time / (half_life_s * SECOND)


def _total(counts: Sequence[tuple[Count, float]], now_us: int) -> float:
    return sum(count.at(now_us, half_life_s) for count, half_life_s in counts)


def _unpack(packed: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) < packed.size:
        raise CorruptError(f"redis: a field of {len(data)} bytes: {packed.size} or more are written")
    return packed.unpack_from(data)
