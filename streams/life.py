"""A slate's life: it opens, its negatives go out, outcomes turn its labels, it settles and is forgotten. Pure.

What each stage teaches and what the ledger says of it is decided here; who comes when is `join`'s business.
"""

from __future__ import annotations

from feedback.clock import SECOND
from feedback.events import NEGATIVE, POSITIVE, REVISION, Ledger, Outcome, Prediction
from streams import emit
from streams.labels import NOTHING
from streams.records import Record, Refusal, Round
from streams.rules import RuleBook, Rules
from streams.slates import HELD, OUT, SETTLED, SHED, Outcomes, Slate, emitted
from streams.store import Slates
from streams.timers import Timers


class Life:
    """The slates of one partition and their ledger."""

    def __init__(self, *, slates: Slates, rules: RuleBook, watermark: int, floor: int) -> None:
        self.slates, self.rules = slates, rules
        self.shed: dict[str, Slate] = {}
        self.ledger = Ledger()
        self.watermark = watermark
        self.floor = floor
        self.evictions: list[tuple[int, int]] = []
        self._timers: Timers[Slate] = Timers()
        self._restoring = False

    def _open(self, event: Prediction, record: Record, rules: Rules, own: int, out: Round) -> Slate | None:
        begin = max(event.event_time, own)
        settle = begin + rules.window
        if self._restoring and settle + rules.remember < self.watermark:
            return None
        size = len(event.items)
        slate = Slate(
            event.request_id,
            record.value or b"",
            record.offset,
            size,
            event.event_time,
            own,
            settle if rules.hold == 0 else begin + rules.hold,
            begin + rules.hold,
            settle,
            rules.number,
        )
        if record.offset < self.floor:
            self._stub(slate)
            self._timers.add(slate)
            return None
        self.slates.add(slate)
        ledger = self.ledger
        ledger.slates += 1
        ledger.impressions += size
        ledger.open += size
        if rules.whole:
            # What nine slates in ten come to in most loops: `_release` and `emitted`, without the questions.
            slate.stage = OUT
            ledger.negatives += size
            ledger.expected_emissions += size
            if not self._restoring:
                out.samples.append((record.key, emit.whole(slate, rules)))
        elif rules.hold == 0:
            self._release(slate, rules, out)
        self._timers.add(slate)
        return slate

    def _stage(self, slate: Slate, out: Round) -> None:
        """A slate's timer went off: release it, settle it, or forget it."""
        rules = self.rules[slate.rules]
        if slate.stage != SHED and self.slates.get(slate.request_id) is not slate:
            return
        if slate.stage == SHED:
            if slate.due == slate.settle + rules.remember:
                self.shed.pop(slate.request_id, None)
                return
            slate.due = slate.settle + rules.remember
        elif slate.stage == SETTLED:
            self.slates.remove(slate)
            return
        else:
            if slate.stage == HELD:
                self._release(slate, rules, out)
            if slate.due == slate.settle:
                self._settle(slate, rules)
            else:
                slate.due = slate.settle
            self.slates.touch(slate)
        self._timers.add(slate)

    def _release(self, slate: Slate, rules: Rules, out: Round) -> None:
        """Let the slate's negatives go (at close its positives too), and then what came after them."""
        before = emitted(slate, viewed_only=rules.viewed_only, at_once=rules.at_once)
        slate.stage = OUT
        slate.first = slate.positive
        self.ledger.expected_emissions += emitted(slate, viewed_only=rules.viewed_only, at_once=rules.at_once) - before
        self._emit_first(slate, rules, out)
        known = slate.outcomes
        if known is not None and known.after:
            after, known.after = known.after, []
            for event in after:
                self._fold(slate, rules, event, False, out)

    def _emit_first(self, slate: Slate, rules: Rules, out: Round) -> None:
        negative = (slate.viewed if rules.viewed_only else slate.everyone) & ~slate.positive
        if negative == slate.everyone:
            self.ledger.negatives += slate.size
            if not self._restoring:
                out.samples.append((slate.request_id.encode(), emit.whole(slate, rules)))
            return
        positive = 0 if rules.at_once else slate.positive
        positions = emit.bits(negative | positive)
        emissions = [POSITIVE if positive >> at & 1 else NEGATIVE for at in positions]
        sent_times = slate.outcomes.sent_times if slate.outcomes else []
        self._emit(slate, rules, positions, emissions, "n", out, sent_times)

    def _settle(self, slate: Slate, rules: Rules) -> None:
        slate.stage = SETTLED
        slate.due = slate.settle + rules.remember
        ledger, positives = self.ledger, slate.positive.bit_count()
        ledger.open -= slate.size
        ledger.settled_positive += positives
        ledger.settled_negative += slate.size - positives
        if rules.viewed_only:
            ledger.unviewed += (slate.everyone & ~(slate.viewed | slate.positive)).bit_count()

    def _emit(
        self,
        slate: Slate,
        rules: Rules,
        positions: list[int],
        emissions: list[int],
        suffix: str,
        out: Round,
        sent_times: list[int],
    ) -> None:
        if not positions:
            return
        ledger = self.ledger
        ledger.negatives += emissions.count(NEGATIVE)
        ledger.positives += emissions.count(POSITIVE)
        ledger.revisions += emissions.count(REVISION)
        if self._restoring:
            return
        weights = [self._weight(slate, rules, at) if e else 1.0 for at, e in zip(positions, emissions, strict=True)]
        value = emit.some(slate, rules, positions, emissions, suffix=suffix, weights=weights, sent_times=sent_times)
        out.samples.append((slate.request_id.encode(), value))

    def _weight(self, slate: Slate, rules: Rules, position: int) -> float:
        known = slate.outcomes
        return rules.label.weight(known.evidence[position]) if known is not None and rules.label.weighs else 1.0

    def _apply(self, slate: Slate, event: Outcome, record: Record, clock: int, out: Round) -> None:
        rules, ledger = self.rules[slate.rules], self.ledger
        if event.event_time + rules.early_wait < slate.clock or self._evicted(slate, record):
            self._lost(out, record, event)
            return
        known = slate.outcomes or Outcomes(emit.items(slate.raw))
        if event.item_id not in known.items:
            self._refuse(
                out, False, record, "item_not_on_slate", f"item_id = {event.item_id!r}: one of the slate's items"
            )
            return
        if event.event_id in known.seen:
            ledger.duplicate_outcomes += 1
            return
        delay = event.event_time - slate.time
        if delay < -rules.skew:
            allowed = f"{rules.skew / SECOND:g} are allowed"
            detail = f"event_time = {event.event_time}: {-delay / SECOND:.3f} s before the prediction, {allowed}"
            self._refuse(out, False, record, "before_prediction", detail)
            return
        own = clock - rules.lateness
        if delay > rules.window or own > slate.settle + rules.remember:
            ledger.late += 1
            return
        known.seen.add(event.event_id)
        slate.outcomes = known
        self.slates.touch(slate)
        if slate.stage == HELD and own > slate.release:
            # By the outcomes' clock the negatives are out: they go now, even if the predictions lag behind.
            self._release(slate, rules, out)
        elif slate.stage == HELD and event.event_time > slate.release:
            known.after.append(event)
            return
        self._fold(slate, rules, event, own > slate.settle, out)

    def _fold(self, slate: Slate, rules: Rules, event: Outcome, late: bool, out: Round) -> None:
        before = emitted(slate, viewed_only=rules.viewed_only, at_once=rules.at_once)
        self._label(slate, rules, event, late, out)
        self.ledger.expected_emissions += emitted(slate, viewed_only=rules.viewed_only, at_once=rules.at_once) - before

    def _label(self, slate: Slate, rules: Rules, event: Outcome, late: bool, out: Round) -> None:
        known = slate.outcomes
        assert known is not None
        position = known.items.index(event.item_id)
        bit = 1 << position
        self.ledger.late += late
        if rules.viewed_only and not late and not slate.viewed & bit:
            slate.viewed |= bit
            if slate.stage != HELD and not slate.positive & bit:
                self._emit(slate, rules, [position], [NEGATIVE], f"v{position}", out, [])
        evidence = rules.label.fold(known.evidence.get(position, NOTHING), event.kind, event.value)
        known.evidence[position] = evidence
        if slate.positive & bit or not rules.label.positive(evidence):
            return
        slate.positive |= bit
        if slate.stage == HELD:
            if rules.at_once:
                self._emit(slate, rules, [position], [POSITIVE], f"p{position}", out, [event.sent_time])
            else:
                known.sent_times.append(event.sent_time)
            return
        unviewed = rules.viewed_only and not slate.viewed & bit
        if unviewed:
            self._emit(slate, rules, [position], [NEGATIVE], f"v{position}", out, [])
        self._emit(slate, rules, [position], [REVISION], f"p{position}", out, [event.sent_time])
        self.ledger.late_revisions += late
        if slate.stage == SETTLED:
            self.ledger.settled_negative -= 1
            self.ledger.settled_positive += 1
            self.ledger.unviewed -= unviewed

    def _stub(self, slate: Slate) -> None:
        slate.stage, slate.raw, slate.outcomes = SHED, b"", None
        self.shed[slate.request_id] = slate

    def _refuse(self, out: Round, prediction: bool, record: Record, reason: str, detail: str) -> None:
        self.ledger.refused += 1
        self._letter(out, prediction, record, reason, detail)

    def _letter(self, out: Round, prediction: bool, record: Record, reason: str, detail: str) -> None:
        if not self._restoring:
            out.refusals.append(Refusal(prediction, record, reason, detail))

    def _lost(self, out: Round, record: Record, event: Outcome) -> None:
        self.ledger.orphan += 1
        self._letter(
            out, False, record, "orphan", f"request_id = {event.request_id!r}: no prediction of it came in time"
        )

    def _evicted(self, slate: Slate, record: Record) -> bool:
        """Whether, when the state was first made, this outcome was let go before the slate's prediction came."""
        if not self._restoring or not self.evictions:
            return False
        return any(record.offset < before and slate.offset >= since for before, since in self.evictions)
