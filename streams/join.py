"""The join of one partition, a pure machine: predictions, outcomes and ticks go in; samples, refusals, progress and changes of
state come out.

It knows events and times, nothing of Kafka, Faust or clocks. What it teaches is a function of the two logs alone, not of how their
reading interleaved or where it was interrupted. Therefore no rule asks what the watermark is at that moment (that depends on how far
the other topic happens to be read). Each asks its own topic's clock, the greatest event time read there so far:

- a prediction opens its slate at the later of its event time and its topic's clock less the lateness;
- an outcome's time is the later of its event time and its topic's clock less the lateness: by it the outcome comes before or after the
  slate's negatives go out, or late. One that comes after them, read before they are out, is kept until they are;
- an outcome that comes first waits; it is an orphan when the *predictions'* clock had passed its time and the wait.

The watermark, the lesser of the two clocks, never runs ahead of either, so that whatever such a rule still needs is still there:
it only decides when state may go. `restoring` leans on the same: the state is a function of the inputs before two offsets.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import msgspec

from feedback.clock import SECOND
from feedback.codec import decode_input, encode
from feedback.errors import CorruptError, EventError
from feedback.events import Ledger, Outcome, Prediction, Progress, Tick
from streams.changes import REPEATED, STATE, WAITING, Offsets, State
from streams.life import Life
from streams.marks import Mark, Marks
from streams.records import Record, Round
from streams.rules import Epoch, RuleBook
from streams.settings import BoundSettings, JoinSettings, LabelSettings
from streams.slates import SETTLED, SHED, Slate, Waiting
from streams.store import Header, Slates
from streams.timers import Timers

_STEP = SECOND

decode_ledger = msgspec.json.Decoder(Ledger).decode


class Source:
    """How far one of the two topics has been read."""

    def __init__(self, low: Mark) -> None:
        self.offset, self.clock = low.offset, low.clock
        self.marks = Marks(low, _STEP)

    def skip(self, to: Mark) -> None:
        """What lies before `to` need not be read again (but may have to be, should the disk be lost: the older marks stay)."""
        if to.offset > self.offset:
            self.offset, self.clock = to.offset, to.clock
            self.marks.note(to.offset, to.clock)

    def here(self) -> Mark:
        """The next offset, and the clock there."""
        return Mark(self.offset, self.clock)


class Join(Life):
    """One partition's slates, ledger and clocks."""

    def __init__(
        self,
        partition: int,
        *,
        join: JoinSettings,
        labels: LabelSettings,
        bounds: BoundSettings,
        state: State | None = None,
        slates: Slates | None = None,
    ) -> None:
        rules = RuleBook(list(state.epochs) if state else [Epoch(0, 0, 0, join, labels)])
        rules.adopt(join, labels, state.predictions.offset if state else 0, state.outcomes.offset if state else 0)
        super().__init__(
            slates=slates if slates is not None else Slates(),
            rules=rules,
            watermark=state.watermark if state else 0,
            floor=state.floor if state else 0,
        )
        self.partition = partition
        self.bounds = bounds
        self.lineage = state.lineage if state else uuid.uuid4().hex
        self.evictions = list(state.evictions) if state else []
        self.predictions = Source(state.low_predictions if state else Mark())
        self.outcomes = Source(state.low_outcomes if state else Mark())
        self.waiting: dict[str, list[Waiting]] = {}
        self.waiting_count = 0
        self.waits, self.repeated = Offsets(WAITING), Offsets(REPEATED)
        self._waiting_timers: Timers[Waiting] = Timers()

    def feed(self, predictions: Sequence[Record], outcomes: Sequence[Record]) -> Round:
        """Take in the next records of the two topics, in the order of their offsets, and let go what is due."""
        out = Round()
        self.read_predictions(predictions, out)
        self.read_outcomes(outcomes, out)
        self.advance(out)
        return out

    def read_predictions(self, records: Sequence[Record], out: Round) -> None:
        """Take in records of the predictions topic."""
        source = self.predictions
        self._bring(records)
        for record in records:
            if record.offset < source.offset:
                continue
            clock = source.clock
            source.marks.note(record.offset, clock)
            source.offset = record.offset + 1
            event = self._read(record, True, out)
            if event is None:
                continue
            if event.event_time > clock:
                source.clock = event.event_time
            if type(event) is Prediction:
                out.fed += 1
                self._predicted(event, record, clock, out)
            elif type(event) is Outcome:
                self._refuse(out, True, record, "wrong_topic", "type = outcome: predictions and ticks stand here")

    def _predicted(self, event: Prediction, record: Record, clock: int, out: Round) -> None:
        rules = self.rules.at(record.offset)
        own = clock - rules.lateness
        name = event.request_id
        if self._restoring and (self._written(name, record.offset) or record.offset in self.repeated):
            return
        if name in self.slates or name in self.shed:
            self.ledger.duplicate_predictions += 1
            self.repeated.add(record.offset)
        elif own > event.event_time + rules.window + rules.remember:
            late = (own - event.event_time) / SECOND
            detail = (
                f"event_time = {event.event_time}: {late:.1f} s behind, too late to tell whether it was taught before"
            )
            self._refuse(out, True, record, "too_late", detail)
        else:
            slate = self._open(event, record, rules, own, out)
            if slate is not None and self.waiting:
                self._meet(slate, out)

    def read_outcomes(self, records: Sequence[Record], out: Round) -> None:
        """Take in records of the outcomes topic."""
        source, slates = self.outcomes, self.slates
        self._bring(records)
        for record in records:
            if record.offset < source.offset:
                continue
            clock = source.clock
            source.marks.note(record.offset, clock)
            source.offset = record.offset + 1
            event = self._read(record, False, out)
            if event is None:
                continue
            if event.event_time > clock:
                source.clock = event.event_time
            if type(event) is not Outcome:
                if type(event) is Prediction:
                    self._refuse(out, False, record, "wrong_topic", "type = prediction: outcomes and ticks stand here")
                continue
            out.fed += 1
            slate = slates.get(event.request_id)
            if slate is not None:
                self._apply(slate, event, record, clock, out)
            elif event.request_id in self.shed:
                self.ledger.late += 1
            elif not self._restoring or record.offset in self.waits:
                self._wait(event, record, clock)

    def advance(self, out: Round) -> None:
        """Move the watermark and let go what it has passed."""
        if self.predictions.clock and self.outcomes.clock:
            low = min(self.predictions.clock, self.outcomes.clock) - self.rules.lateness
            self.watermark = max(self.watermark, low)
        now = self.watermark
        for waiting in self._waiting_timers.take(now):
            if not waiting.gone:
                self._orphan(waiting, out)
        for slate in self.slates.due(now):
            self._timers.add(slate)
        for slate in self._timers.take(now):
            self._stage(slate, out)
        if self._restoring:
            return
        if self.slates.held > self.bounds.slates:
            self._shed(self.slates.held - self.bounds.slates + self.bounds.slates // 100)
        if self.waiting_count > self.bounds.waiting:
            self._evict(self.waiting_count - self.bounds.waiting + self.bounds.waiting // 10, out)

    def _written(self, request_id: str, offset: int) -> bool:
        slate = self.slates.get(request_id)
        return slate is not None and slate.offset == offset

    def _bring(self, records: Sequence[Record]) -> None:
        for slate in self.slates.fetch(record.key for record in records):
            self._timers.add(slate)

    def _read(self, record: Record, prediction: bool, out: Round) -> Prediction | Outcome | Tick | None:
        value = record.value
        try:
            if value is None:
                raise EventError("empty", allowed="a record without a value is no event")
            event = decode_input(value)
        except EventError as error:
            self.ledger.malformed += 1
            self._letter(out, prediction, record, "malformed", str(error))
            return None
        received = record.timestamp * 1000
        future = self.rules.future(prediction, record.offset)
        if event.event_time > received + future:
            ahead = (event.event_time - received) / SECOND
            detail = (
                f"event_time = {event.event_time}: {ahead:.1f} s ahead of Kafka's time, {future / SECOND:g} are allowed"
            )
            self._refuse(out, prediction, record, "future_event_time", detail)
            return None
        if not isinstance(event, Tick) and record.key != event.request_id.encode():
            detail = f"key = {record.key!r}: {event.request_id}, the request_id"
            self._refuse(out, prediction, record, "wrong_key", detail)
            return None
        return event

    def _wait(self, event: Outcome, record: Record, clock: int) -> None:
        waiting = Waiting(event.request_id, record, event, clock, event.event_time + self.rules.early_wait)
        self.waiting.setdefault(event.request_id, []).append(waiting)
        self.waiting_count += 1
        self.waits.add(record.offset)
        self._waiting_timers.add(waiting)

    def _meet(self, slate: Slate, out: Round) -> None:
        for waiting in self.waiting.pop(slate.request_id, ()):
            self._stop_waiting(waiting)
            self._apply(slate, waiting.event, waiting.record, waiting.clock, out)

    def _stop_waiting(self, waiting: Waiting) -> None:
        waiting.gone = True
        self.waiting_count -= 1
        self.waits.discard(waiting.record.offset)

    def _orphan(self, waiting: Waiting, out: Round) -> None:
        self._stop_waiting(waiting)
        others = self.waiting[waiting.request_id]
        others.remove(waiting)
        if not others:
            del self.waiting[waiting.request_id]
        self._lost(out, waiting.record, waiting.event)

    def _shed(self, count: int) -> None:
        """Close the oldest slates early; those that have settled are only forgotten early."""
        oldest = self.slates.oldest(count)
        for slate in oldest:
            if slate.stage < SETTLED:
                self.ledger.open -= slate.size
                self.ledger.shed += slate.size
            self.slates.remove(slate)
            self._stub(slate)
            self._timers.add(slate)
        self.floor = max(self.floor, oldest[-1].offset + 1)

    def _evict(self, count: int, out: Round) -> None:
        """Let go the outcomes that have waited longest."""
        oldest = sorted((w for each in self.waiting.values() for w in each), key=lambda w: w.record.offset)[:count]
        for waiting in oldest:
            self._orphan(waiting, out)
        self.evictions.append((oldest[-1].record.offset + 1, self.predictions.offset))

    def progress(self, now: int) -> bytes:
        """The Progress record of this moment; `now` is the wall clock, µs."""
        return encode(
            Progress(
                partition=self.partition,
                watermark=max(self.watermark, 0),
                predictions_offset=self.predictions.offset,
                outcomes_offset=self.outcomes.offset,
                ledger=self.ledger,
                sent_time=now,
            )
        )

    def state(self) -> State:
        """What the changelog says of this moment; forgets the marks and rules that nothing kept needs."""
        low_predictions = self.predictions.marks.before(self.watermark - self.rules.kept)
        low_outcomes = self.outcomes.marks.before(low_predictions.clock - self.rules.lateness - self.rules.early_wait)
        self.rules.forget(low_predictions.offset, low_outcomes.offset)
        self.repeated.forget(low_predictions.offset)
        self.evictions = [each for each in self.evictions if each[0] > low_outcomes.offset]
        return State(
            predictions=self.predictions.here(),
            outcomes=self.outcomes.here(),
            low_predictions=low_predictions,
            low_outcomes=low_outcomes,
            lineage=self.lineage,
            watermark=self.watermark,
            ledger=self.ledger,
            epochs=self.rules.epochs,
            floor=self.floor,
            evictions=self.evictions,
        )

    @classmethod
    def restoring(
        cls,
        partition: int,
        state: State,
        waits: Offsets,
        repeated: Offsets,
        *,
        join: JoinSettings,
        labels: LabelSettings,
        bounds: BoundSettings,
        slates: Slates | None = None,
        written: Header | None = None,
    ) -> Join:
        """Begin to make the state of a commit again: feed it the predictions from where `predictions` stands to `state.predictions` with
        `read_predictions`, then the outcomes likewise, then call `restored`. `written`: what lies on disk already."""
        machine = cls(partition, join=join, labels=labels, bounds=bounds, state=state, slates=slates)
        if written is not None:
            machine.predictions.skip(written.predictions)
            machine.outcomes.skip(written.outcomes)
        machine.waits, machine.repeated = waits, repeated
        machine._restoring = True
        return machine

    def restored(self, state: State, *, truncated: bool = False) -> None:
        """The inputs have been read again. `truncated`: some of them are no longer there; the slates lost are counted as shed.

        Raises:
            CorruptError: what came out is not the state that was committed.
        """
        self.advance(Round())
        self._restoring = False
        self.ledger = decode_ledger(encode(state.ledger))
        for name, source, mark in (
            ("predictions", self.predictions, state.predictions),
            ("outcomes", self.outcomes, state.outcomes),
        ):
            if source.clock != mark.clock and not truncated:
                raise CorruptError(
                    f"{name}-{self.partition}: read again, the clock is {source.clock}: {mark.clock} was committed"
                )
            source.offset, source.clock = mark.offset, mark.clock
        missing = self.ledger.open - self.open_impressions()
        if missing and not (truncated and missing > 0):
            raise CorruptError(
                f"join-{self.partition}: {missing} open impressions missing after reading the inputs again"
            )
        self.ledger.open -= missing
        self.ledger.shed += missing
        # Before anything new comes: a worker that is killed again finds the disk good.
        self.flush()

    def flush(self) -> None:
        """The commit is done (or a part of the inputs read again): let the store write what it holds of it."""
        slates = self.slates
        slates.spill()
        young = slates.first_young()
        low = self.predictions.here() if young is None else self.predictions.marks.at(young)
        outcomes = self.outcomes.marks.below(low.clock - self.rules.lateness - self.rules.early_wait)
        first = next(iter(self.waits), None)
        if first is not None and first < outcomes.offset:
            outcomes = self.outcomes.marks.at(first)
        at = (self.predictions.offset, self.outcomes.offset)
        # A store that is still being filled is good for nothing: after a kill it is begun anew.
        lineage = "" if self._restoring else self.lineage
        header = Header(lineage=lineage, predictions=low, outcomes=outcomes, at=at, count=0, open=0)
        if slates.flush(header):
            self._timers.keep(lambda slate: slate.stage == SHED or slates.get(slate.request_id) is slate)

    def open_impressions(self) -> int:
        """Count the ledger's `open` again from what is held."""
        return self.slates.open_impressions()

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The changelog records since the last call, the state last."""
        state = encode(self.state())
        yield from self.waits.changes()
        yield from self.repeated.changes()
        yield STATE, state
