"""The gRPC twins of recommend and slates, and outcomes as a stream. It does what the HTTP routes do, through the same objects.

The API key travels as metadata `authorization: Bearer KEY` or `x-api-key: KEY`. A problem becomes a status: 422 and 400
INVALID_ARGUMENT with the field in front of the text, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 429 and 503 RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
import msgspec

from feedback.errors import ConfigError
from feedback.events import Value
from serving.gateway.access import Access
from serving.gateway.disk import Disk
from serving.gateway.messages import ObserveRequest, RecommendRequest, RecommendResponse
from serving.gateway.observe import Observer
from serving.gateway.outcomes import Collector
from serving.gateway.problems import ProblemError, refused
from serving.gateway.recommend import Recommender
from serving.gateway.settings import HttpSettings
from serving.protocol import gateway_pb2 as pb

T = TypeVar("T")

SERVICE: Final = "everloop.gateway.Gateway"

_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_LOG: Final = logging.getLogger("everloop.gateway.rpc")


class Rpc:
    """The gRPC server."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        access: Access,
        recommender: Recommender,
        observer: Observer,
        collector: Collector,
        disk: Disk,
    ) -> None:
        self._access, self._recommender, self._observer = access, recommender, observer
        self._collector, self._disk = collector, disk
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", settings.max_body), ("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._settings = settings

    async def start(self, port: int) -> int:
        """Listen; answer the port.

        Raises:
            ConfigError: the port is taken.
        """
        address = f"[{self._settings.host}]:{port}" if ":" in self._settings.host else f"{self._settings.host}:{port}"
        try:
            bound = int(self._listen(address))
        except RuntimeError as error:
            raise ConfigError(key="gateway.grpc_port", value=port, allowed=f"a free port: {error}") from error
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """Let calls in flight end, for a moment."""
        await self._server.stop(grace=2.0)

    async def recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        """Answer one recommend call."""
        try:
            caller = self._access.admit(_key(context), "recommend", asyncio.get_running_loop().time())
            asked = _asked(request)
            if "replay" not in caller.scopes and (request.event_time or request.request_id):
                raise ProblemError(
                    403, f"event_time and request_id are set by the gateway: key {caller.name} lacks scope replay"
                )
            answer = await self._recommender.answer(asked)
            await self._disk.settle()
        except ProblemError as problem:
            await _abort(context, problem)
        return _answered(answer)

    async def record(self, request: pb.RecordSlateRequest, context: Any) -> pb.RecordSlateResponse:
        """Take one slate that something else chose."""
        try:
            self._access.admit(_key(context), "outcomes", asyncio.get_running_loop().time())
            taken = await self._observer.take(_observed(request))
            await self._disk.settle()
        except ProblemError as problem:
            await _abort(context, problem)
        return pb.RecordSlateResponse(request_id=taken.request_id, logged=taken.logged, degraded=taken.degraded)

    async def outcomes(self, stream: AsyncIterator[pb.Outcome], context: Any) -> AsyncIterator[pb.Verdict]:
        """Take outcomes as they come, one verdict each."""
        try:
            async for outcome in stream:
                self._access.admit(_key(context), "outcomes", asyncio.get_running_loop().time())
                verdict = self._verdict(outcome)
                await self._disk.settle()
                yield verdict
        except ProblemError as problem:
            await _abort(context, problem)

    def _verdict(self, outcome: pb.Outcome) -> pb.Verdict:
        try:
            [verdict] = self._collector.collect([_fields(outcome)]).verdicts
        except ProblemError as problem:
            if problem.status != 422:
                raise
            return pb.Verdict(accepted=False, field=problem.field, detail=problem.detail)
        return pb.Verdict(accepted=True, event_id=verdict.event_id)

    def _listen(self, address: str) -> int:
        settings = self._settings
        if not settings.tls_cert:
            return int(self._server.add_insecure_port(address))
        with open(settings.tls_key, "rb") as key, open(settings.tls_cert, "rb") as chain:
            credentials = grpc.ssl_server_credentials([(key.read(), chain.read())])
        return int(self._server.add_secure_port(address, credentials))

    def _handlers(self) -> Any:
        methods = {
            "Recommend": grpc.unary_unary_rpc_method_handler(
                self.recommend,
                request_deserializer=pb.RecommendRequest.FromString,
                response_serializer=pb.RecommendResponse.SerializeToString,
            ),
            "RecordSlate": grpc.unary_unary_rpc_method_handler(
                self.record,
                request_deserializer=pb.RecordSlateRequest.FromString,
                response_serializer=pb.RecordSlateResponse.SerializeToString,
            ),
            "SendOutcomes": grpc.stream_stream_rpc_method_handler(
                self.outcomes,
                request_deserializer=pb.Outcome.FromString,
                response_serializer=pb.Verdict.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)


class GatewayStub:
    """The gateway's methods on a channel: blocking on `grpc.Channel`, awaitable on `grpc.aio.Channel`."""

    def __init__(self, channel: Any) -> None:
        self.recommend = channel.unary_unary(
            f"/{SERVICE}/Recommend",
            request_serializer=pb.RecommendRequest.SerializeToString,
            response_deserializer=pb.RecommendResponse.FromString,
        )
        self.record = channel.unary_unary(
            f"/{SERVICE}/RecordSlate",
            request_serializer=pb.RecordSlateRequest.SerializeToString,
            response_deserializer=pb.RecordSlateResponse.FromString,
        )
        self.outcomes = channel.stream_stream(
            f"/{SERVICE}/SendOutcomes",
            request_serializer=pb.Outcome.SerializeToString,
            response_deserializer=pb.Verdict.FromString,
        )


def _key(context: Any) -> str:
    for name, value in context.invocation_metadata():
        if name == "authorization" and value[:7].lower() == "bearer ":
            return str(value[7:]).strip()
        if name == "x-api-key":
            return str(value)
    return ""


def _asked(request: pb.RecommendRequest) -> RecommendRequest:
    """The request as HTTP would have it, checked by the same types."""
    fields: dict[str, Any] = {"user": request.user, "context": _values(request.context)}
    if request.candidates:
        fields["candidates"] = _listed(request.candidates)
    if request.count:
        fields["count"] = request.count
    return _converted(fields | _given(request), RecommendRequest)


def _observed(request: pb.RecordSlateRequest) -> ObserveRequest:
    fields = {"user": request.user, "context": _values(request.context), "items": _listed(request.items)}
    return _converted(fields | _given(request), ObserveRequest)


def _given(request: pb.RecommendRequest | pb.RecordSlateRequest) -> dict[str, Any]:
    """Time and name, where they are given."""
    return {name: value for name in ("event_time", "request_id") if (value := getattr(request, name))}


def _listed(items: Iterable[pb.Candidate]) -> list[dict[str, Any]]:
    return [{"id": item.id, "features": _values(item.features)} for item in items]


def _converted(fields: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise refused(error) from error


def _values(values: Mapping[str, pb.Value]) -> dict[str, Value]:
    return {name: _value(value) for name, value in values.items()}


def _value(value: pb.Value) -> Value:
    kind = value.WhichOneof("kind")
    if kind == "texts":
        return list(value.texts.values)
    return value.number if kind == "number" else value.text


def _answered(answer: RecommendResponse) -> pb.RecommendResponse:
    model = answer.model
    return pb.RecommendResponse(
        request_id=answer.request_id,
        items=[
            pb.RecommendResponse.Item(id=i.id, position=i.position, score=i.score, propensity=i.propensity)
            for i in answer.items
        ],
        model=pb.RecommendResponse.Model(
            name=model.name, version=model.version, sequence=model.sequence, epoch=model.epoch
        ),
        policy=answer.policy,
        fallback=answer.fallback,
        degraded=answer.degraded,
        logged=answer.logged,
    )


def _fields(outcome: pb.Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"request_id": outcome.request_id, "item_id": outcome.item_id, "kind": outcome.kind}
    if outcome.HasField("value"):
        fields["value"] = outcome.value
    for name in ("event_id", "event_time", "sent_time"):
        if getattr(outcome, name):
            fields[name] = getattr(outcome, name)
    return fields


async def _abort(context: Any, problem: ProblemError) -> None:
    text = f"{problem.field}: {problem.detail}" if problem.field else problem.detail
    await context.abort(_CODES.get(problem.status, grpc.StatusCode.INTERNAL), text)
