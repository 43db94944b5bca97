"""A whole slate's sample, put together from the prediction's bytes, says what one that is decoded and encoded says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from feedback.codec import decode_input, decode_output, encode
from feedback.events import NEGATIVE, Prediction, Sample, Unshown
from streams import emit
from streams.rules import Epoch, Rules
from streams.settings import JoinSettings, LabelSettings
from streams.slates import Slate
from tests.streams.world import prediction

RULES = Rules(Epoch(0, 0, 0, JoinSettings(), LabelSettings()))


def changed(**fields: Any) -> bytes:
    """A prediction's bytes with other fields, among them such as this version does not know."""
    return encode(json.loads(encode(prediction('r"é', 50))) | fields)


RAWS = {
    "as the gateway writes it": encode(prediction('r"é', 50)),
    "without what may be left out": encode(prediction("r", 50, features=False, extra=False)),
    "only what must be there": encode(
        {"type": "prediction"}
        | {name: json.loads(encode(prediction("r", 50)))[name] for name in ("request_id", "user_id", "items", "scores")}
        | {"event_time": 5, "sent_time": 6}
    ),
    "spaced, the tag last": json.dumps(
        {name: value for name, value in json.loads(encode(prediction("r", 50))).items() if name != "type"}
        | {"type": "prediction"},
        indent=1,
    ).encode(),
    "a blank behind": encode(prediction("r", 50)) + b"\n",
    "a feature called type": changed(context={"type": "x"}),
    "the tag twice": encode(prediction("r", 50))[:-1] + b',"type":"prediction"}',
    "fields of a newer producer that are called as a sample's are": changed(
        emissions=["x"],
        positions="y",
        weights=[2.0, 2.0, 2.0],
        sent_times=7,
        sample_id=1,
        settle_time="z",
        label_policy=3,
    ),
    "a field twice": encode(prediction("r", 50))[:-1] + b',"policy":"other","scores":[0.3,0.2,0.1]}',
    "candidates that were not shown": changed(unshown={"items": ["z"], "scores": [0.1]}),
}


@pytest.mark.parametrize("name", RAWS)
def test_a_whole_slate_says_what_its_prediction_says(name: str) -> None:
    raw = RAWS[name]
    event = decode_input(raw)
    assert isinstance(event, Prediction)
    size, at = len(event.items), event.event_time
    slate = Slate(event.request_id, raw, 0, size, at, at, at, at, at + 1_000, 0)
    made = emit.whole(slate, RULES)
    expected = decode_output(emit.some(slate, RULES, range(size), [NEGATIVE] * size, suffix="n"))
    assert isinstance(expected, Sample)
    assert decode_output(made) == expected
    plain = json.loads(made)
    assert {field: plain.get(field, default) for field, default in json.loads(encode(expected)).items()} == json.loads(
        encode(expected)
    )


def test_what_was_not_shown_is_not_taught() -> None:
    raw = encode(structs.replace(prediction("r", 50), unshown=Unshown(items=["z"], scores=[0.1])))
    assert b"unshown" not in emit.whole(Slate("r", raw, 0, 3, 0, 0, 0, 0, 0, 0), RULES)
