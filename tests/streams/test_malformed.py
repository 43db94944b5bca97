"""Mutated events of every type: no crash, and each one is either still an event or a dead letter with a reason."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from feedback.codec import decode_input, decode_output, encode
from feedback.errors import EventError
from feedback.events import Outcome, Prediction, Tick
from streams.records import Round
from tests.streams.world import Row, log, machine, outcome, prediction, tick

WRONG: list[Any] = [None, True, -1, 0, 1e300, 2**70, "", "x" * 300, [], {}, [None], {"a": [1]}, [[["x"]]], "prediction"]
BYTES = [b"\xff", b"\x00", b'"', b"\\ud800", b"NaN", b"[" * 3000, b"1e999", b"}", b",", b"\xed\xa0\x80"]


def mutated(random: Random, raw: bytes) -> bytes:
    """One random damage."""
    kind = random.randrange(6)
    if kind == 0:
        return raw[: random.randrange(len(raw))]
    if kind == 1:
        at = random.randrange(len(raw))
        return raw[:at] + bytes([random.randrange(256)]) + raw[at + 1 :]
    if kind == 2:
        at = random.randrange(len(raw))
        return raw[:at] + random.choice(BYTES) + raw[at:]
    event = json.loads(raw)
    name = random.choice(list(event))
    if kind == 3:
        del event[name]
    elif kind == 4 and isinstance(event[name], list) and event[name]:
        event[name][random.randrange(len(event[name]))] = random.choice(WRONG)
    elif kind == 5 and isinstance(event[name], dict) and event[name]:
        event[name][random.choice(list(event[name]))] = random.choice(WRONG)
    else:
        event[name] = random.choice(WRONG)
    return json.dumps(event).encode()


def understood(raw: bytes) -> bool:
    """Whether the contract takes these bytes for an event."""
    try:
        decode_input(raw)
    except EventError:
        return False
    return True


@pytest.mark.parametrize(
    "event", [prediction("r", 50), outcome("r", 60), tick(55)], ids=["prediction", "outcome", "tick"]
)
@pytest.mark.parametrize("topic", ["predictions", "outcomes"])
def test_ten_thousand_mutated_events_are_dead_letters_each_with_a_reason(
    event: Prediction | Outcome | Tick, topic: str
) -> None:
    random, raw = Random(7), encode(event)
    values = [mutated(random, raw) for _ in range(10_000)]
    rows = [Row(n, log([tick(0)])[0].timestamp, b"r", value) for n, value in enumerate(values)]
    join, out = machine(), Round()
    (join.read_predictions if topic == "predictions" else join.read_outcomes)(rows, out)
    join.advance(out)
    damaged = [n for n, value in enumerate(values) if not understood(value)]
    letters = {refusal.record.offset: refusal for refusal in out.refusals}
    assert len(letters) == len(out.refusals)
    assert set(damaged) <= set(letters)
    assert len(damaged) > 4_000
    assert Counter(letters[n].reason for n in damaged) == {"malformed": len(damaged)}
    assert all(letter.reason and letter.detail for letter in letters.values())
    ledger = join.ledger
    assert ledger.malformed == len(damaged)
    assert ledger.refused + ledger.malformed == len(letters)
    assert (ledger.residual, ledger.sample_residual) == (0, 0)
    for _, value in out.samples:
        decode_output(value)


def test_a_refusal_names_the_field() -> None:
    rows = log(
        [
            b'{"type":"outcome","event_id":"e","request_id":"r","item_id":"a","kind":"CLICK","event_time":1,"sent_time":1}'
        ]
    )
    out = machine().feed([], rows)
    assert "`$.kind`" in out.refusals[0].detail
