"""Events to bytes and back. JSON through msgspec; an event that is not what the contract says is refused with the field's name."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from feedback.errors import DecodeError, EventError
from feedback.events import DeadLetter, Input, Outcome, Output, Prediction

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder()
_INPUT: Final = msgspec.json.Decoder(Input)
_OUTPUT: Final = msgspec.json.Decoder(Output)
_OUTCOME: Final = msgspec.json.Decoder(Outcome)
_DEADLETTER: Final = msgspec.json.Decoder(DeadLetter)
_WHERE: Final = re.compile(
    r"(?:Object (?:missing required field|contains unknown field) `(?P<missing>[^`]+)`)|- at `\$\.?(?P<path>[^`]*)`"
)

encode = _ENCODER.encode
"""Encode any event or record of the contract as JSON bytes."""

encode_into = _ENCODER.encode_into
"""Encode into a bytearray that the caller reuses."""


def decode_input(data: bytes) -> Input:
    """Decode a record of the predictions or outcomes topic, checked.

    Raises:
        DecodeError: not JSON, an unknown type, a missing field or one of the wrong type.
        EventError: well-formed, but its parts contradict each other (see `check_prediction`).
    """
    event: Input = _decode(_INPUT, data)
    if type(event) is Prediction:
        check_prediction(event)
    return event


def decode_outcome(data: bytes) -> Outcome:
    """Decode one outcome. Raises DecodeError as `decode_input` does."""
    return _decode(_OUTCOME, data)


def decode_output(data: bytes) -> Output:
    """Decode a record of the samples topic. Raises DecodeError as `decode_input` does."""
    record: Output = _decode(_OUTPUT, data)
    return record


def decode_deadletter(data: bytes) -> DeadLetter:
    """Decode a record of the dead-letter topic. Raises DecodeError as `decode_input` does."""
    return _decode(_DEADLETTER, data)


def check_prediction(event: Prediction) -> None:
    """Refuse a slate whose columns contradict each other.

    Raises:
        EventError: an item stands twice, or an array is not as long as `items`.
    """
    items = event.items
    n = len(items)
    if len(set(items)) != n:
        twice = next(item for item in items if items.count(item) > 1)
        raise EventError("repeated_item", field="items", value=twice, allowed="each item once in a slate")
    if len(event.scores) != n:
        _same_length("scores", event.scores, n)
    if event.propensities and len(event.propensities) != n:
        _same_length("propensities", event.propensities, n)
    for name, column in event.features.items():
        if len(column) != n:
            _same_length(f"features.{name}", column, n)
    if event.unshown is not None:
        _same_length("unshown.scores", event.unshown.scores, len(event.unshown.items))


def _same_length(field: str, column: list[Any], expected: int) -> None:
    if len(column) != expected:
        raise EventError("wrong_length", field=field, value=len(column), allowed=f"{expected} entries, one per item")


def _decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise translate(error) from error


def translate(error: Exception) -> DecodeError:
    """Say a msgspec error in the contract's words: the field's name, and what is allowed."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        found = _WHERE.search(text)
        field = (found.group("missing") or found.group("path")) if found else ""
        return DecodeError("invalid_field" if field else "invalid_event", field="", allowed=_sentence(field, text))
    return DecodeError("not_json", allowed=text)


def _sentence(field: str, text: str) -> str:
    return f"{field}: {text}" if field and f"`{field}`" not in text else text
