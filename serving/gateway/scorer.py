"""Scores from the model server, through gRPC Predict.

At most `max_calls` calls are in flight; requests that come meanwhile wait, and go together in the next one. Nothing is ever
delayed for company: a lone request leaves at once. A row's score does not depend on the other rows, so it makes no other
difference than the cost of a call.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from feedback.errors import CorruptError, UnavailableError
from feedback.events import Value
from feedback.features import Feature
from serving.gateway.breaker import Breaker
from serving.gateway.settings import ModelSettings
from serving.protocol import requests, tensors
from serving.protocol.serving_pb2 import PredictResponse, TensorProto
from serving.protocol.stubs import UNLIMITED, ModelServer

_OPTIONS: Final = (
    *UNLIMITED,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_NO_LABEL: Final = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
_REASONS: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "model_timeout",
    grpc.StatusCode.INVALID_ARGUMENT: "model_error",
    grpc.StatusCode.INTERNAL: "model_error",
    grpc.StatusCode.UNIMPLEMENTED: "model_error",
}


class ModelError(UnavailableError):
    """No scores came. `reason` is the word that the answer's `fallback` says."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {text}")


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model said of one request's candidates."""

    scores: list[float]
    """Click probability of each."""
    heads: list[list[float]]
    """Bootstrap heads of each; empty when the model has none."""
    version: int
    """The version that scored."""
    sequence: int
    """The sequence that it had reached."""


class _Job:
    __slots__ = ("answer", "columns", "rows")

    def __init__(self, columns: Mapping[str, Sequence[Value]], rows: int, answer: asyncio.Future[Scores]) -> None:
        self.columns, self.rows, self.answer = columns, rows, answer


class Scorer:
    """Asks one model server for scores at a label."""

    def __init__(
        self,
        address: str,
        model: str,
        features: Sequence[Feature],
        settings: ModelSettings,
        breaker: Breaker,
        *,
        limit_s: float,
    ) -> None:
        self._channel = _channel(address, settings)
        self._server = ModelServer(self._channel)
        self._model, self._features, self._settings, self._limit_s = model, features, settings, limit_s
        self._breaker = breaker
        self._waiting: dict[str, deque[_Job]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def score(
        self, columns: Mapping[str, Sequence[Value]], rows: int, *, label: str, now: float, limit_s: float
    ) -> Scores:
        """Score one request's candidates. `now`: a monotonic clock, s.

        Raises:
            ModelError: no scores came within `limit_s`, or such as are not finite.
        """
        if not self._breaker.allows(now):
            raise ModelError("model_unavailable", "its breaker is open")
        job = _Job(columns, rows, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(label, deque()).append(job)
        self._dispatch()
        try:
            return await asyncio.wait_for(job.answer, min(limit_s, self._limit_s))
        except TimeoutError as error:
            self._breaker.failed(now)
            raise ModelError("model_timeout", f"no answer within {min(limit_s, self._limit_s):.3f} s") from error

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    def _dispatch(self) -> None:
        while len(self._calls) < self._settings.max_calls:
            label = next((label for label, jobs in self._waiting.items() if jobs), None)
            if label is None:
                return
            task = asyncio.create_task(self._call(label, self._take(self._waiting[label])))
            self._calls.add(task)
            task.add_done_callback(self._finished)

    def _take(self, jobs: deque[_Job]) -> list[_Job]:
        taken, rows = [jobs.popleft()], 0
        rows = taken[0].rows
        while jobs and rows + jobs[0].rows <= self._settings.max_rows:
            rows += jobs[0].rows
            taken.append(jobs.popleft())
        return taken

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._dispatch()

    async def _call(self, label: str, jobs: list[_Job]) -> None:
        jobs = [job for job in jobs if not job.answer.done()]
        if not jobs:
            return
        try:
            answer = await self._predict(label, jobs)
            found = _read(answer, [job.rows for job in jobs])
        except grpc.aio.AioRpcError as error:
            reason = _REASONS.get(error.code(), "model_unavailable")
            self._fail(jobs, ModelError(reason, f"{error.code().name}: {error.details()}"))
        except CorruptError as error:
            self._fail(jobs, ModelError("model_error", str(error)))
        else:
            self._breaker.succeeded()
            for job, scores in zip(jobs, found, strict=True):
                if not job.answer.done():
                    job.answer.set_result(scores)

    async def _predict(self, label: str, jobs: list[_Job]) -> PredictResponse:
        inputs = {f.name: _tensor(f, jobs) for f in self._features}
        request = requests.predict(requests.spec(self._model, label=label), inputs)
        try:
            answer: PredictResponse = await self._server.predict(request, timeout=self._limit_s)
        except grpc.aio.AioRpcError as error:
            if label == "live" or error.code() not in _NO_LABEL:
                raise
            # A canary that its follower has not loaded yet, or not any more: its readers get what is live.
            request.model_spec.version_label = "live"
            answer = await self._server.predict(request, timeout=self._limit_s)
        return answer

    def _fail(self, jobs: list[_Job], error: ModelError) -> None:
        self._breaker.failed(asyncio.get_running_loop().time())
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)


def _tensor(feature: Feature, jobs: Sequence[_Job]) -> TensorProto:
    parts: list[Sequence[Any]] = [job.columns[feature.name] for job in jobs]
    if feature.kind == "string" and feature.per_slate:
        # One value per slate: encode it once, not once per candidate.
        return tensors.octets([value for part in parts for value in [part[0].encode()] * len(part)])
    values = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
    if feature.kind == "number":
        return tensors.floats(values)
    return tensors.strings(values) if feature.kind == "string" else tensors.string_lists(values)


def _read(answer: PredictResponse, sizes: Sequence[int]) -> list[Scores]:
    outputs = answer.outputs
    if "score" not in outputs or "sequence" not in outputs:
        raise CorruptError(f"the model answers {', '.join(sorted(outputs))}: score and sequence are expected")
    scores = tensors.floats_of(outputs["score"])
    sequence = tensors.integers_of(outputs["sequence"])
    heads = tensors.floats_of(outputs["heads"]) if "heads" in outputs else []
    rows = sum(sizes)
    if len(scores) != rows or len(sequence) != rows:
        raise CorruptError(f"the model answers {len(scores)} scores: {rows} rows were asked")
    if not math.isfinite(math.fsum(scores)) or not all(map(math.isfinite, heads)):
        raise CorruptError("the model answers a score that is no finite number")
    width = len(heads) // rows if rows else 0
    version, found, at = answer.model_spec.version.value, [], 0
    for size in sizes:
        end = at + size
        matrix = [heads[row * width : (row + 1) * width] for row in range(at, end)] if width else []
        found.append(Scores(scores[at:end], matrix, version, min(sequence[at:end])))
        at = end
    return found


def _channel(address: str, settings: ModelSettings) -> Any:
    if not settings.tls:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    roots = Path(settings.ca_file).read_bytes() if settings.ca_file else None
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=_OPTIONS)
