"""Made-up slates and outcomes, for the chaos run and the benches: the same seed gives the same events.

A slate has 20 candidates and about 1 KB; a tenth of the slates get outcomes. Disturbed, events come twice, out of order by less than the
lateness, and some are wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

from feedback.clock import SECOND
from feedback.codec import encode
from feedback.events import EventId, ItemId, Outcome, Prediction, RequestId, Tick, UserId

START = 1_700_000_000 * SECOND
"""Event time 0: long ago, so that no event is ahead of the clock."""

Entry = tuple[int, bytes | None, bytes]
"""Event time at which it is sent, key, value."""


def slate(random: Random, number: int, at: int, *, size: int = 20, prefix: str = "r") -> Prediction:
    """Make slate `number` at event time `at`."""
    first, step = random.randrange(1_000_000), random.randrange(1, 40_000)
    items = [f"i{(first + step * position) % 1_000_003}" for position in range(size)]
    return Prediction(
        request_id=RequestId(f"{prefix}{number:09d}"),
        user_id=UserId(f"u{random.randrange(50_000)}"),
        event_time=at,
        sent_time=at,
        items=items,
        scores=[round(random.random(), 4) for _ in range(size)],
        propensities=[-round(random.random() * 9, 3) for _ in range(size)],
        context={"device": random.choice(("phone", "desktop", "tablet")), "hour": str(at // 3_600_000_000 % 24)},
        features={
            "topic": [f"t{random.randrange(60)}" for _ in range(size)],
            "age": [float(random.randrange(20)) for _ in range(size)],
        },
        policy="epsilon_greedy(0.1)",
        model="news",
        version=3,
        sequence=number // 100,
    )


def outcomes(random: Random, of: Prediction, window: int) -> list[Outcome]:
    """Make what the reader of a slate does with it: clicks, half of them followed by a reading."""
    found = []
    for number in range(random.choice((1, 1, 1, 2, 3))):
        item = ItemId(random.choice(of.items))
        at = of.event_time + int(random.random() ** 3 * 0.9 * window) - random.randrange(2) * SECOND
        found.append(_outcome(of, f"{of.request_id}-{number}c", item, "click", 1.0, at))
        if random.random() < 0.5:
            reading = float(random.randrange(1, 60))
            found.append(_outcome(of, f"{of.request_id}-{number}d", item, "dwell", reading, at + SECOND))
    return found


def _outcome(of: Prediction, event: str, item: ItemId, kind: str, value: float, at: int) -> Outcome:
    at = max(at, 0)
    return Outcome(
        event_id=EventId(event),
        request_id=RequestId(of.request_id),
        item_id=item,
        kind=kind,
        value=value,
        event_time=at,
        sent_time=at,
    )


def partition_of(request_id: str, partitions: int) -> int:
    """Choose a slate's partition: any function of the request id will do, as long as both topics share it."""
    return zlib.crc32(request_id.encode()) % partitions


class Script:
    """What is to be sent: two lists of entries per partition, in the order of sending."""

    def __init__(
        self, *, seed: int, slates: int, span_s: float, partitions: int, window_s: float, lateness_s: float
    ) -> None:
        self.partitions, self.span = partitions, int(span_s * SECOND)
        self.predictions: list[list[Entry]] = [[] for _ in range(partitions)]
        self.outcomes: list[list[Entry]] = [[] for _ in range(partitions)]
        self.calm: list[tuple[Prediction, list[Outcome]]] = []
        """What happened, once each."""
        random = Random(seed)
        for number in range(slates):
            prediction = slate(random, number, START + int(number / slates * self.span))
            happened = outcomes(random, prediction, int(window_s * SECOND)) if random.random() < 0.1 else []
            self.calm.append((prediction, happened))
            self._add(random, prediction, happened, int(lateness_s * SECOND))
        for entries in (*self.predictions, *self.outcomes):
            entries.sort(key=lambda entry: entry[0])

    def _add(self, random: Random, prediction: Prediction, happened: list[Outcome], lateness: int) -> None:
        number = partition_of(prediction.request_id, self.partitions)
        key = prediction.request_id.encode()
        events: list[tuple[Prediction | Outcome, list[Entry]]] = [(prediction, self.predictions[number])]
        events += [(each, self.outcomes[number]) for each in happened]
        for event, entries in events:
            for _ in range(2 if random.random() < 0.03 else 1):
                # Most come at once, some late, none later than is allowed.
                delay = int(random.random() * 0.95 * lateness) if random.random() < 0.2 else 0
                entries.append((event.event_time + delay, key, encode(event)))
        if random.random() < 0.002:
            wrong = _outcome(
                prediction, f"{prediction.request_id}-x", ItemId("no-such-item"), "click", 1.0, prediction.event_time
            )
            self.outcomes[number].append((wrong.event_time, key, encode(wrong)))
            self.outcomes[number].append((wrong.event_time, key, b'{"type":"outcome","event_id":7'))

    def slices(self, count: int) -> Iterator[list[tuple[bool, int, list[Entry]]]]:
        """Cut the script into equal stretches of event time; each is (whether predictions, partition, entries), ended by a tick."""
        at = {id(entries): 0 for entries in (*self.predictions, *self.outcomes)}
        for number in range(1, count + 1):
            until = START + self.span * number // count if number < count else 2**62
            stretch = []
            for is_prediction, topic in ((True, self.predictions), (False, self.outcomes)):
                for partition, entries in enumerate(topic):
                    begin = end = at[id(entries)]
                    while end < len(entries) and entries[end][0] < until:
                        end += 1
                    at[id(entries)] = end
                    # A tick says how far time has come, less what may still come late.
                    tick = (until, None, encode(Tick(event_time=min(until, START + self.span), sent_time=0)))
                    stretch.append((is_prediction, partition, [*entries[begin:end], tick]))
            yield stretch

    def end(self, at_s: float) -> bytes:
        """Encode a tick after everything."""
        return encode(Tick(event_time=START + self.span + int(at_s * SECOND), sent_time=0))
