"""The outcomes' way: each is checked on its own, and is in the spool before it is called accepted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from feedback.clock import now_us, to_us
from feedback.codec import encode
from feedback.errors import BufferFullError, EventError
from feedback.events import EventId, ItemId, Outcome, RequestId
from serving.gateway.messages import OutcomeIn, OutcomesResponse, Verdict
from serving.gateway.metrics import Metrics
from serving.gateway.problems import ProblemError, field_of
from serving.gateway.recommend import partition
from serving.gateway.sender import OUTCOME
from serving.gateway.spool import Spool

MAX_OUTCOMES: Final = 10_000
"""Outcomes in one request at most."""


class Collector:
    """Takes outcomes into the spool."""

    def __init__(self, spool: Spool, metrics: Metrics, *, partitions: int, max_future_s: float) -> None:
        self._spool, self._metrics, self._partitions = spool, metrics, partitions
        self._max_future_s = max_future_s

    def take(self, body: bytes) -> OutcomesResponse:
        """Take one outcome (an object) or many (an array).

        Raises:
            ProblemError: 400 no JSON; 422 none could be taken; 503 the spool is full (what was taken before stands in the
                verdicts; all may be sent again with the same event_ids).
        """
        try:
            raw: Any = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise ProblemError(400, str(error)) from error
        rows = raw if isinstance(raw, list) else [raw]
        if not 1 <= len(rows) <= MAX_OUTCOMES:
            raise ProblemError(422, f"{len(rows)} outcomes: 1 to {MAX_OUTCOMES}")
        return self.collect(rows)

    def collect(self, rows: Sequence[Any]) -> OutcomesResponse:
        """Take decoded outcomes. Raises ProblemError as `take` does."""
        verdicts: list[Verdict] = []
        accepted = 0
        for index, row in enumerate(rows):
            verdict = self._one(index, row, verdicts)
            accepted += verdict.accepted
            verdicts.append(verdict)
        self._metrics.outcomes_taken.inc(accepted)
        self._metrics.outcomes_refused.inc(len(rows) - accepted)
        if not accepted:
            first = verdicts[0]
            raise ProblemError(422, first.detail, field=first.field, verdicts=verdicts)
        return OutcomesResponse(accepted=accepted, refused=len(rows) - accepted, verdicts=verdicts)

    def _one(self, index: int, row: Any, before: list[Verdict]) -> Verdict:
        try:
            event = self._event(msgspec.convert(row, OutcomeIn))
            key = event.request_id.encode()
            self._spool.append(OUTCOME, partition(key, self._partitions), key, encode(event))
        except msgspec.ValidationError as error:
            return Verdict(index=index, accepted=False, field=field_of(str(error)), detail=str(error))
        except EventError as error:
            return Verdict(index=index, accepted=False, field=error.field, detail=str(error))
        except (BufferFullError, OSError) as error:
            text = f"the spool is full: {error}"
            raise ProblemError(503, text, verdicts=before, retry_s=1.0) from error
        return Verdict(index=index, accepted=True, event_id=event.event_id)

    def _event(self, given: OutcomeIn) -> Outcome:
        now = now_us()
        return Outcome(
            event_id=EventId(given.event_id or uuid.uuid4().hex),
            request_id=RequestId(given.request_id),
            item_id=ItemId(given.item_id),
            kind=given.kind,
            value=given.value,
            event_time=moment_of(given.event_time, now, self._max_future_s),
            sent_time=now if given.sent_time is None else given.sent_time,
        )


def moment_of(given: int | None, now: int, max_future_s: float) -> int:
    """When something happened that a producer tells of, µs: as it says, or now.

    Raises:
        EventError: that is more than `max_future_s` ahead of this machine's clock.
    """
    moment = now if given is None else given
    if moment > now + to_us(max_future_s):
        allowed = f"at most {max_future_s:g} s after this machine's clock ({now})"
        raise EventError("future_event_time", field="event_time", value=moment, allowed=allowed)
    return moment
