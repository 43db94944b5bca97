"""The gRPC twin says what HTTP says."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from feedback.events import OBSERVED, Outcome, Prediction
from serving.gateway.access import digest
from serving.gateway.rpc import GatewayStub
from serving.gateway.settings import GatewaySettings, KeySettings
from serving.protocol import gateway_pb2 as pb
from tests.gateway.house import House, at_home


def texts(*values: str) -> pb.Value:
    return pb.Value(texts=pb.Value.Strings(values=values))


def test_recommend_answers_as_http_does_and_outcomes_stream() -> None:
    async def visit(house: House) -> None:
        gateway = house.gateway
        await gateway.start_rpc(0)
        port = gateway.grpc_port
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = GatewayStub(channel)
            features = {"age": pb.Value(number=2.5), "topics": texts("a", "b")}
            request = pb.RecommendRequest(
                user="anna",
                context={"device": pb.Value(text="phone")},
                candidates=[pb.Candidate(id="i1"), pb.Candidate(id="i9", features=features)],
                count=1,
                event_time=5,
                request_id="mine",
            )
            answer = await stub.recommend(request, timeout=30)
            assert (answer.request_id, [item.id for item in answer.items], answer.model.version) == ("mine", ["i9"], 7)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.recommend(pb.RecommendRequest(user=""), timeout=30)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert str(caught.value.details()).startswith("user: ")
            call = stub.outcomes(timeout=30)
            verdicts = []
            for kind in ("click", "Click!", "dwell"):
                await call.write(pb.Outcome(request_id="mine", item_id="i9", kind=kind, event_id=f"e-{kind}"))
                verdicts.append(await call.read())
            await call.done_writing()
            assert [(v.accepted, v.field) for v in verdicts] == [(True, ""), (False, "kind"), (True, "")]
        prediction, click, dwell = house.logged()
        assert isinstance(prediction, Prediction)
        assert isinstance(click, Outcome)
        assert prediction.features["topics"] == [["a", "b"]]
        assert (prediction.context["device"], prediction.event_time) == ("phone", 5)
        assert (click.kind, click.value, getattr(dwell, "event_id", "")) == ("click", 1.0, "e-dwell")

    at_home(visit)


def test_a_slate_that_something_else_chose_is_taken_as_http_takes_it() -> None:
    async def visit(house: House) -> None:
        await house.gateway.start_rpc(0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{house.gateway.grpc_port}") as channel:
            stub = GatewayStub(channel)
            features = {"age": pb.Value(number=2.5), "topics": texts("a", "b")}
            items = [pb.Candidate(id="i1"), pb.Candidate(id="i9", features=features)]
            context = {"device": pb.Value(text="phone")}
            request = pb.RecordSlateRequest(user="anna", context=context, items=items, event_time=5, request_id="front")
            taken = await stub.record(request, timeout=30)
            assert (taken.request_id, taken.logged, list(taken.degraded)) == ("front", True, ["features_unavailable"])
            nameless = await stub.record(pb.RecordSlateRequest(user="anna", items=items[:1]), timeout=30)
            for wrong, field in (
                (pb.RecordSlateRequest(items=items), "user"),
                (pb.RecordSlateRequest(user="anna"), "items"),
                (pb.RecordSlateRequest(user="anna", items=[items[0], items[0]]), "items[1].id"),
                (pb.RecordSlateRequest(user="anna", items=items, event_time=1 << 52), "event_time"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.record(wrong, timeout=30)
                assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
                assert str(caught.value.details()).startswith(f"{field}: ")
        named, other = house.logged()
        assert isinstance(named, Prediction)
        assert isinstance(other, Prediction)
        assert (named.items, named.policy, named.event_time) == (["i1", "i9"], OBSERVED, 5)
        assert (named.features["topics"], named.context["device"]) == ([[], ["a", "b"]], "phone")
        assert other.request_id == nameless.request_id != ""
        assert other.event_time == other.sent_time

    at_home(visit)


def test_keys_hold_for_grpc_too() -> None:
    async def visit(house: House) -> None:
        gateway = house.gateway
        await gateway.start_rpc(0)
        port = gateway.grpc_port
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = GatewayStub(channel)
            request = pb.RecommendRequest(user="anna", candidates=[pb.Candidate(id="i1")])
            for metadata, code in (((), "UNAUTHENTICATED"), ((("x-api-key", "letmein"),), "OK")):
                try:
                    found = "OK" if await stub.recommend(request, timeout=30, metadata=metadata) else ""
                except grpc.aio.AioRpcError as error:
                    found = error.code().name
                assert found == code
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                slate = pb.RecordSlateRequest(user="anna", items=[pb.Candidate(id="i1")])
                await stub.record(slate, timeout=30, metadata=(("x-api-key", "letmein"),))
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
            call = stub.outcomes(timeout=30, metadata=(("x-api-key", "letmein"),))
            await call.write(pb.Outcome(request_id="r", item_id="i", kind="click"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED

    at_home(visit, GatewaySettings(keys=(KeySettings(name="k", sha256=digest("letmein"), scopes=("recommend",)),)))
