"""The way of slates that something else chose: the features that serving would have used, log, answer.

Nothing is scored and no policy is asked, so the event has neither scores nor propensities, and version 0. Its features are looked up as a
recommend request's are: what the model is taught with is what it would have been asked with.
"""

from __future__ import annotations

import asyncio
import uuid

from feedback.clock import now_us
from feedback.codec import encode
from feedback.errors import BufferFullError, EventError
from feedback.events import OBSERVED, ItemId, Prediction, RequestId, UserId
from serving.gateway.columns import Columns
from serving.gateway.messages import ObserveRequest, ObserveResponse
from serving.gateway.metrics import Metrics
from serving.gateway.outcomes import moment_of
from serving.gateway.problems import ProblemError
from serving.gateway.recommend import check_once, partition
from serving.gateway.sender import PREDICTION
from serving.gateway.settings import GatewaySettings
from serving.gateway.spool import Spool
from serving.gateway.store import Store


class Observer:
    """Takes slates that something else chose into the spool."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        columns: Columns,
        store: Store,
        spool: Spool,
        metrics: Metrics,
        partitions: int,
    ) -> None:
        self._settings, self._columns, self._store = settings, columns, store
        self._spool, self._metrics, self._partitions = spool, metrics, partitions

    async def take(self, request: ObserveRequest) -> ObserveResponse:
        """Take one slate; it is in the spool when this returns.

        Raises:
            ProblemError: 422 the request contradicts the contract or the feature specification, or the event is larger than
                Kafka takes; 503 the spool is full (send it again with the same request_id).
        """
        event, known = await self._event(request)
        key = event.request_id.encode()
        try:
            self._spool.append(PREDICTION, partition(key, self._partitions), key, encode(event))
        except EventError as error:
            raise ProblemError(422, str(error), field=error.field) from error
        except (BufferFullError, OSError) as error:
            raise ProblemError(503, f"the spool is full: {error}", retry_s=1.0) from error
        self._metrics.observed.inc()
        return ObserveResponse(
            request_id=event.request_id, logged=True, degraded=[] if known else ["features_unavailable"]
        )

    async def _event(self, request: ObserveRequest) -> tuple[Prediction, bool]:
        """The event, and whether the features in it are those that Redis knows."""
        ids = [item.id for item in request.items]
        check_once(ids, "items")
        now = now_us()
        try:
            moment = moment_of(request.event_time, now, self._settings.max_future_s)
        except EventError as error:
            raise ProblemError(422, str(error), field=error.field) from error
        known = await self._store.read(
            request.user,
            ids,
            event_time=moment,
            now=asyncio.get_running_loop().time(),
            limit_s=self._settings.budget.request_s,
        )
        inputs = self._columns.make(
            user=request.user,
            event_time=moment,
            context=request.context,
            candidates=request.items,
            ids=ids,
            known=known,
            listed="items",
        )
        event = Prediction(
            request_id=RequestId(request.request_id or uuid.uuid4().hex),
            user_id=UserId(request.user),
            event_time=moment,
            sent_time=now,
            items=[ItemId(item) for item in ids],
            scores=[0.0] * len(ids),
            context=inputs.context,
            features=inputs.features,
            policy=OBSERVED,
            model=self._settings.model,
            fallback=OBSERVED,
        )
        return event, known.available
