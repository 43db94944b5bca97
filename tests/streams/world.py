"""A small world to try the join in: events by hand, the two logs they stand in, and a broker's part played by lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import structs

from feedback.clock import SECOND
from feedback.codec import decode_output, encode
from feedback.events import EventId, ItemId, Outcome, Prediction, RequestId, Sample, Tick, UserId
from streams.changes import read_changes
from streams.join import Join
from streams.records import Refusal, Round
from streams.settings import BoundSettings, JoinSettings, LabelSettings
from streams.store import DiskSlates, Slates

START = 1_790_000_000 * SECOND
"""Event time 0 of the tests."""

JOIN = JoinSettings(window_s=100, lateness_s=10, skew_s=2, early_wait_s=50, remember_s=60, future_s=30)
"""Round numbers."""

LABELS = LabelSettings()
BOUNDS = BoundSettings()


@dataclass(frozen=True)
class Row:
    """A record as a Kafka client gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def prediction(
    request: str, at: float, items: Sequence[str] = ("a", "b", "c"), *, features: bool = True, extra: bool = True
) -> Prediction:
    """A slate at `at` seconds."""
    n = len(items)
    return Prediction(
        request_id=RequestId(request),
        user_id=UserId(("u" + request)[:256]),
        event_time=START + round(at * SECOND),
        sent_time=START,
        items=list(items),
        scores=[0.5 - i / 100 for i in range(n)],
        propensities=[-float(i) for i in range(n)] if extra else [],
        context={"device": "phone", "tags": ["x", 'q"uote']} if extra else {},
        features={"topic": [f"t{i}" for i in range(n)], "age": [float(i) for i in range(n)]} if features else {},
        policy="top",
        version=3,
        sequence=17,
    )


def outcome(
    request: str, at: float, item: str = "a", kind: str = "click", *, value: float = 1.0, event: str = ""
) -> Outcome:
    """An outcome at `at` seconds; its id says what it is unless named."""
    return Outcome(
        event_id=EventId(event or f"{request}/{item}/{kind}/{at}"),
        request_id=RequestId(request),
        item_id=ItemId(item),
        kind=kind,
        value=value,
        event_time=START + round(at * SECOND),
        sent_time=START + round(at * SECOND) + 5,
    )


def tick(at: float) -> Tick:
    """A tick at `at` seconds."""
    return Tick(event_time=START + round(at * SECOND), sent_time=0)


def log(events: Iterable[Prediction | Outcome | Tick | bytes | None], first: int = 0) -> list[Row]:
    """A partition of a topic, received by Kafka at the end of all times of the test."""
    rows = []
    for offset, event in enumerate(events, first):
        raw = event if isinstance(event, bytes) or event is None else encode(event)
        key = None if isinstance(event, bytes | Tick) or event is None else event.request_id.encode()
        rows.append(Row(offset, (START + 10_000 * SECOND) // 1000, key, raw))
    return rows


def machine(join: JoinSettings = JOIN, labels: LabelSettings = LABELS, bounds: BoundSettings = BOUNDS) -> Join:
    """A join with nothing in it."""
    return Join(0, join=join, labels=labels, bounds=bounds)


@dataclass
class Broker:
    """The two logs, what the join wrote, and its changelog (compacted at once): what outlives a crash."""

    predictions: list[Row]
    outcomes: list[Row]
    join: JoinSettings = JOIN
    labels: LabelSettings = LABELS
    bounds: BoundSettings = BOUNDS
    samples: list[Sample] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    disk: Path | None = None
    """Where the join's store is; None: it has none."""
    store: DiskSlates | None = None

    def slates(self) -> Slates:
        """The store as a new process finds it."""
        if self.disk is None:
            return Slates()
        if self.store is not None:
            self.store.close()
        self.store = DiskSlates(self.disk, in_memory=self.bounds.slates_in_memory, unwritten=self.bounds.unwritten)
        return self.store

    def commit(self, join: Join, out: Round) -> None:
        """What a transaction writes."""
        for key, value in out.samples:
            sample = decode_output(value)
            assert isinstance(sample, Sample) and key == sample.request_id.encode()
            self.samples.append(sample)
        self.refusals.extend(out.refusals)
        for change, content in join.changes():
            if content is None:
                self.changelog.pop(change, None)
            else:
                self.changelog[change] = content
        assert join.ledger.residual == 0
        assert join.ledger.sample_residual == 0
        assert join.ledger.open == join.open_impressions()
        join.flush()
        assert join.slates.held == len(list(join.slates.everything()))

    def restart(self) -> Join:
        """The join of a worker that has nothing but Kafka."""
        state, waits, repeated = read_changes(self.changelog.items())
        slates, written = self.slates(), None
        if isinstance(slates, DiskSlates):
            written = slates.header()
            if state is None or written is None or not state.goes_on_from(written):
                slates.wipe()
                written = None
            else:
                slates.adopt(written)
        if state is None:
            return Join(0, join=self.join, labels=self.labels, bounds=self.bounds, slates=slates)
        join = Join.restoring(
            0,
            state,
            waits,
            repeated,
            join=self.join,
            labels=self.labels,
            bounds=self.bounds,
            slates=slates,
            written=written,
        )
        for row in self.predictions[join.predictions.offset : state.predictions.offset]:
            join.read_predictions([row], Round())
            join.flush()
        join.read_outcomes(self.outcomes[join.outcomes.offset : state.outcomes.offset], Round())
        join.flush()
        join.restored(state)
        if isinstance(slates, DiskSlates):
            found = slates.header()
            assert found is not None and (state.goes_on_from(found) or state.floor)
        return join

    def run(self, steps: Iterable[tuple[int, int]], crash: Callable[[int], bool] = lambda _: False) -> Join:
        """Feed the logs in steps of so many predictions and outcomes, then the rest; crash before the steps that say so."""
        join = self.restart()
        rest = (len(self.predictions), len(self.outcomes))
        for number, (some, others) in enumerate([*steps, rest]):
            if crash(number):
                before = contents(join)
                # Twice: killed again before anything new has come.
                for _ in range(2):
                    join = self.restart()
                    assert contents(join) == before
            at, to = join.predictions.offset, join.outcomes.offset
            self.commit(join, join.feed(self.predictions[at : at + some], self.outcomes[to : to + others]))
        return join


def contents(join: Join) -> bytes:
    """All that a join holds, in one canonical form: what must come back after a crash."""
    parts = (
        [
            structs.replace(s, disk_due=-1, disk_open=0)
            for s in sorted(join.slates.everything(), key=lambda s: s.offset)
        ],
        [(s.offset, s.settle) for s in sorted(join.shed.values(), key=lambda s: s.offset)],
        sorted((w.record.offset, w.clock, w.due) for each in join.waiting.values() for w in each),
        join.waiting_count,
        list(join.waits),
        (join.predictions.here(), join.outcomes.here(), join.watermark, join.floor),
        join.ledger,
    )
    return msgspec.json.encode(msgspec.to_builtins(parts, str_keys=True, order="sorted"), order="sorted")
