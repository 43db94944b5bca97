"""A recommend request's way: features, scores, policy, log, answer.

Every step that needs another part has a limit and something that stands in; what stood in is said in the answer and in the
event. The event is in the spool before the answer is given.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from aiokafka.partitioner import murmur2

from feedback.clock import now_us
from feedback.codec import encode
from feedback.errors import BufferFullError, EventError
from feedback.events import ItemId, Prediction, RequestId, Unshown, UserId
from serving.gateway.columns import Columns, Inputs
from serving.gateway.freshness import Freshness
from serving.gateway.messages import Candidate, Item, ModelAnswer, RecommendRequest, RecommendResponse
from serving.gateway.metrics import Metrics
from serving.gateway.policies.slate import Candidates, Decision, Mixture
from serving.gateway.problems import ProblemError
from serving.gateway.scorer import ModelError, Scorer, Scores
from serving.gateway.sender import PREDICTION
from serving.gateway.settings import GatewaySettings
from serving.gateway.spool import Spool
from serving.gateway.store import Features, Store
from serving.gateway.watch import Watch

POPULARITY: Final = "popularity"
"""The policy's name in a fallback."""

_LOG: Final = logging.getLogger("everloop.gateway")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, checked, with what was left open filled in."""

    request_id: str
    user: str
    event_time: int
    candidates: Sequence[Candidate]
    ids: list[str]
    count: int


@dataclass(slots=True)
class Last:
    """What the last answer was made with, for /v1/status."""

    version: int = 0
    sequence: int = 0
    epoch: int = 0
    requests: int = 0
    fallbacks: int = 0
    unlogged: int = 0


class Recommender:
    """Answers recommend requests."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        columns: Columns,
        store: Store,
        scorer: Scorer,
        policy: Mixture,
        spool: Spool,
        watch: Watch,
        freshness: Freshness,
        metrics: Metrics,
        partitions: int,
    ) -> None:
        self._settings, self._columns, self._store, self._scorer = settings, columns, store, scorer
        self._policy, self._spool, self._watch, self._freshness = policy, spool, watch, freshness
        self._metrics, self._partitions = metrics, partitions
        self.last = Last()

    async def answer(self, request: RecommendRequest) -> RecommendResponse:
        """Answer one request.

        Raises:
            ProblemError: 422, the request contradicts the contract or the feature specification.
        """
        clock = asyncio.get_running_loop().time
        start = clock()
        deadline = start + self._settings.budget.request_s
        asked = self._complete(request)
        if not asked.ids:
            return self._nothing(asked)
        known = await self._store.read(
            asked.user, asked.ids, event_time=asked.event_time, now=start, limit_s=deadline - start
        )
        inputs = self._columns.make(
            user=asked.user,
            event_time=asked.event_time,
            context=request.context,
            candidates=asked.candidates,
            ids=asked.ids,
            known=known,
        )
        middle = clock()
        self._metrics.features_s.observe(middle - start)
        scores, fallback = await self._score(asked, inputs, middle, deadline - middle)
        end = clock()
        self._metrics.model_s.observe(end - middle)
        response = self._finish(asked, inputs, known, scores, fallback)
        self._metrics.recommend_s.observe(end - start)
        return response

    def label(self, user: str) -> str:
        """`canary` for the configured share of readers while one runs, else `live`. A reader stays on one side."""
        canary = self._watch.control.canary
        if canary is None:
            return "live"
        place = crc32(f"{canary.version}/{user}".encode()) / 2**32
        return "canary" if place < canary.share else "live"

    def _complete(self, request: RecommendRequest) -> _Asked:
        bounds = self._settings.slate
        count = bounds.count if request.count is None else request.count
        if count > bounds.max_count:
            raise ProblemError(422, f"count = {count}: at most {bounds.max_count} positions", field="count")
        candidates = request.candidates
        if candidates is None:
            ids = self._store.candidates(bounds.pool)
            candidates = [Candidate(id=item) for item in ids]
        else:
            ids = [candidate.id for candidate in candidates]
            self._check(ids)
        moment = now_us() if request.event_time is None else request.event_time
        return _Asked(request.request_id or uuid.uuid4().hex, request.user, moment, candidates, ids, count)

    def _check(self, ids: Sequence[str]) -> None:
        most = self._settings.slate.max_candidates
        if not 1 <= len(ids) <= most:
            text = f"{len(ids)} candidates: 1 to {most}, or none at all for those of the pool"
            raise ProblemError(422, text, field="candidates")
        check_once(ids, "candidates")

    async def _score(self, asked: _Asked, inputs: Inputs, now: float, limit_s: float) -> tuple[Scores | None, str]:
        try:
            label = self.label(asked.user)
            found = await self._scorer.score(inputs.columns, len(asked.ids), label=label, now=now, limit_s=limit_s)
        except ModelError as error:
            _LOG.warning("%s: %s", asked.request_id, error)
            return None, error.reason
        return found, ""

    def _finish(
        self, asked: _Asked, inputs: Inputs, known: Features, scores: Scores | None, fallback: str
    ) -> RecommendResponse:
        if scores is None:
            scores, decision = self._popular(asked)
        else:
            them = Candidates(asked.ids, scores.scores, scores.heads)
            decision = self._policy.decide(them, asked.count, asked.request_id)
        epoch = self._watch.epoch(scores.version) if scores.version else 0
        event = self._event(asked, inputs, scores, decision, epoch, fallback)
        logged = self._log(event)
        self._count(scores, epoch, fallback, known, logged)
        return RecommendResponse(
            request_id=asked.request_id,
            items=_items(event),
            model=ModelAnswer(name=event.model, version=scores.version, sequence=scores.sequence, epoch=epoch),
            policy=decision.policy,
            fallback=fallback,
            degraded=[] if known.available else ["features_unavailable"],
            logged=logged,
        )

    def _popular(self, asked: _Asked) -> tuple[Scores, Decision]:
        """Rank by fresh popularity; items that nobody clicked of late follow in the order they came. Certain, so propensity 1."""
        popular = self._store.popular
        lowest = -math.inf
        order = sorted(range(len(asked.ids)), key=lambda i: -popular.get(asked.ids[i], lowest))
        slate = order[: asked.count]
        scores = Scores([0.0] * len(asked.ids), [], 0, 0)
        return scores, Decision(slate, [0.0] * len(slate), POPULARITY)

    def _event(
        self, asked: _Asked, inputs: Inputs, scores: Scores, decision: Decision, epoch: int, fallback: str
    ) -> Prediction:
        slate, ids, values = decision.slate, asked.ids, scores.scores
        hidden: list[int] = []
        if len(slate) < len(ids):
            shown = set(slate)
            hidden = [i for i in range(len(ids)) if i not in shown]
        return Prediction(
            request_id=RequestId(asked.request_id),
            user_id=UserId(asked.user),
            event_time=asked.event_time,
            sent_time=now_us(),
            items=[ItemId(ids[i]) for i in slate],
            scores=[values[i] for i in slate],
            propensities=decision.prefixes,
            context=inputs.context,
            features={name: [column[i] for i in slate] for name, column in inputs.features.items()},
            unshown=Unshown(items=[ItemId(ids[i]) for i in hidden], scores=[values[i] for i in hidden])
            if hidden
            else None,
            policy=decision.policy,
            model=self._settings.model,
            version=scores.version,
            epoch=epoch,
            sequence=scores.sequence,
            fallback=fallback,
        )

    def _log(self, event: Prediction) -> bool:
        key = event.request_id.encode()
        try:
            self._spool.append(PREDICTION, partition(key, self._partitions), key, encode(event))
        except (BufferFullError, EventError, OSError) as error:
            _LOG.error("prediction %s is not logged: %s", event.request_id, error)
            return False
        return True

    def _count(self, scores: Scores, epoch: int, fallback: str, known: Features, logged: bool) -> None:
        last, metrics = self.last, self._metrics
        last.requests += 1
        metrics.answered.inc()
        if fallback:
            last.fallbacks += 1
            metrics.fallbacks.labels(fallback).inc()
        else:
            last.version, last.sequence, last.epoch = scores.version, scores.sequence, epoch
            served = self._freshness.answered(self._watch.line(scores.version), scores.sequence, now_us())
            if served:
                for age in served.total_s:
                    metrics.total_s.observe(age)
                for age in served.served_s:
                    metrics.served_s.observe(age)
        if not known.available:
            metrics.degraded.labels("features_unavailable").inc()
        if not logged:
            last.unlogged += 1
            metrics.unlogged.inc()

    def _nothing(self, asked: _Asked) -> RecommendResponse:
        """An empty slate: no candidates were sent and the pool is empty. There is nothing to log."""
        self._metrics.fallbacks.labels("no_candidates").inc()
        nobody = ModelAnswer(name=self._settings.model, version=0, sequence=0, epoch=0)
        return RecommendResponse(
            request_id=asked.request_id,
            items=[],
            model=nobody,
            policy=POPULARITY,
            fallback="no_candidates",
            degraded=[],
            logged=False,
        )


def check_once(ids: Sequence[str], listed: str) -> None:
    """Refuse a list in which an item stands twice; `listed`: the request's field. Raises ProblemError, 422."""
    if len(set(ids)) != len(ids):
        place = next(i for i, item in enumerate(ids) if item in ids[:i])
        raise ProblemError(422, f"item {ids[place]!r} stands twice", field=f"{listed}[{place}].id")


def partition(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _items(event: Prediction) -> list[Item]:
    rows = zip(event.items, event.scores, event.propensities, strict=True)
    return [Item(id=i, position=at, score=s, propensity=math.exp(p)) for at, (i, s, p) in enumerate(rows)]
