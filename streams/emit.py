"""Samples: from a slate's prediction and its labels to the bytes of a Sample record.

Most samples are a whole slate as negatives: their bytes are put together from the prediction's own, whose parts were checked
when it was read. The others are decoded, cut to their positions and encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from feedback.codec import encode
from feedback.events import MAX_SENT_TIMES, NEGATIVE, SCHEMA_VERSION, Prediction, Sample
from streams.rules import Rules
from streams.slates import Slate

_LONGEST: Final = 200
_PREDICTION: Final = msgspec.json.Decoder(Prediction)


class _Parts(Struct, gc=False, tag_field="type", tag="prediction"):
    """A prediction's parts as bytes."""

    request_id: Raw
    user_id: Raw
    items: Raw
    scores: Raw
    propensities: Raw = Raw(b"[]")
    context: Raw = Raw(b"{}")
    features: Raw = Raw(b"{}")
    policy: Raw = Raw(b'""')
    version: Raw = Raw(b"0")
    sequence: Raw = Raw(b"0")
    fallback: Raw = Raw(b'""')


class _Items(Struct, gc=False, tag_field="type", tag="prediction"):
    items: list[str]


_PARTS: Final = msgspec.json.Decoder(_Parts)
_ITEMS: Final = msgspec.json.Decoder(_Items)


def items(raw: bytes) -> list[str]:
    """The items of a prediction that was checked before."""
    return _ITEMS.decode(raw).items


def sample_id(request_id: str, suffix: str) -> str:
    """Name a sample: a function of the slate and of which of its samples it is, never of time or place."""
    if len(request_id) > _LONGEST:
        request_id = hashlib.blake2b(request_id.encode(), digest_size=20).hexdigest()
    return f"{request_id}:{suffix}"


def whole(slate: Slate, rules: Rules) -> bytes:
    """All positions of a slate as negatives."""
    if len(slate.request_id) > _LONGEST:
        return some(slate, rules, range(slate.size), [NEGATIVE] * slate.size, suffix="n")
    parts = _PARTS.decode(slate.raw)
    request_id = bytes(parts.request_id)
    frame = rules.frames.get(slate.size)
    if frame is None:
        frame = rules.frames[slate.size] = _frame(slate.size, rules.policy)
    head, tail = frame
    return b"".join(
        (
            b'{"type":"sample","sample_id":',
            request_id[:-1],
            b':n","request_id":',
            request_id,
            b',"user_id":',
            parts.user_id,
            b',"event_time":%d,"settle_time":%d' % (slate.time, slate.settle),
            head,
            parts.items,
            b',"scores":',
            parts.scores,
            b',"propensities":',
            parts.propensities,
            b',"context":',
            parts.context,
            b',"features":',
            parts.features,
            b',"policy":',
            parts.policy,
            b',"version":',
            parts.version,
            b',"sequence":',
            parts.sequence,
            b',"fallback":',
            parts.fallback,
            tail,
        )
    )


def _frame(size: int, policy: str) -> tuple[bytes, bytes]:
    """What all whole slates of one size share."""
    emissions, positions = encode([NEGATIVE] * size), encode(list(range(size)))
    return (
        b',"label_policy":%b,"emissions":%b,"positions":%b,"items":' % (encode(policy), emissions, positions),
        b',"v":%d}' % SCHEMA_VERSION,
    )


def some(
    slate: Slate,
    rules: Rules,
    positions: Sequence[int],
    emissions: list[int],
    *,
    suffix: str,
    weights: Sequence[float] = (),
    sent_times: Sequence[int] = (),
) -> bytes:
    """Some positions of a slate, each with its emission; no weights means that all are 1."""
    event = _PREDICTION.decode(slate.raw)
    return encode(
        Sample(
            sample_id=sample_id(slate.request_id, suffix),
            request_id=slate.request_id,
            user_id=event.user_id,
            event_time=slate.time,
            settle_time=slate.settle,
            label_policy=rules.policy,
            emissions=emissions,
            positions=list(positions),
            items=[event.items[at] for at in positions],
            weights=list(weights) if any(weight != 1.0 for weight in weights) else [],
            scores=[event.scores[at] for at in positions],
            propensities=[event.propensities[at] for at in positions] if event.propensities else [],
            context=event.context,
            features={name: [column[at] for at in positions] for name, column in event.features.items()},
            policy=event.policy,
            version=event.version,
            sequence=event.sequence,
            fallback=event.fallback,
            sent_times=list(sent_times[:MAX_SENT_TIMES]),
        )
    )


def bits(mask: int) -> list[int]:
    """The positions in a mask, ascending.

    >>> bits(0b1011)
    [0, 1, 3]
    """
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found
