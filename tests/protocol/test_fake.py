"""The stubs against the shipped fake, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc
import pytest

from feedback.errors import CorruptError
from serving.protocol import requests, tensors
from serving.protocol.fake import FakeModelServer, Refusal
from serving.protocol.serving_pb2 import DT_FLOAT, TensorProto
from serving.protocol.stubs import ModelServer


def lengths(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    if signature != "serving_default":
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
    items = tensors.octets_of(inputs["item"])
    return {"score": tensors.floats(map(len, items)), "sequence": tensors.integers([5] * len(items))}


def test_a_blocking_call_answers_with_the_version_behind_the_label() -> None:
    with FakeModelServer(lengths, versions=(3, 4)) as server, grpc.insecure_channel(server.address) as channel:
        stub = ModelServer(channel)
        stub.reload(requests.reload("news", "/m", versions=[3, 4], labels={"live": 3}), timeout=5)
        target = requests.spec("news", label="live")
        answer = stub.predict(requests.predict(target, {"item": tensors.strings(["a", "bcd"])}, ["score"]), timeout=5)
        assert answer.model_spec.version.value == 3
        assert tensors.floats_of(answer.outputs["score"]) == [1.0, 3.0]
        assert "sequence" not in answer.outputs
        states = requests.states(stub.status(requests.status("news"), timeout=5))
        assert [(s.version, s.state) for s in states] == [(4, "AVAILABLE"), (3, "AVAILABLE")]


def test_an_awaited_call_is_the_same_and_errors_carry_the_servers_code() -> None:
    async def call() -> None:
        with FakeModelServer(lengths) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = ModelServer(channel)
                inputs = {"item": tensors.strings(["ab"])}
                answer = await stub.predict(requests.predict(requests.spec("news"), inputs), timeout=5)
                assert tensors.integers_of(answer.outputs["sequence"]) == [5]
                for target, code in (
                    (requests.spec("news", label="canary"), grpc.StatusCode.FAILED_PRECONDITION),
                    (requests.spec("news", version=9), grpc.StatusCode.NOT_FOUND),
                    (requests.spec("other"), grpc.StatusCode.NOT_FOUND),
                    (requests.spec("news", signature="nope"), grpc.StatusCode.FAILED_PRECONDITION),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.predict(requests.predict(target, inputs), timeout=5)
                    assert caught.value.code() == code

    asyncio.run(call())


def test_a_tensor_that_contradicts_its_shape_is_refused() -> None:
    tensor = tensors.floats([1.0, 2.0])
    tensor.tensor_shape.dim[0].size = 3
    with pytest.raises(CorruptError, match="2 values: its shape says 3"):
        tensors.floats_of(tensor)
    tensor.tensor_content = b"\0\0\0"
    with pytest.raises(CorruptError, match="3 bytes"):
        tensors.floats_of(tensor)
    with pytest.raises(CorruptError, match="int32 or int64"):
        tensors.integers_of(TensorProto(dtype=DT_FLOAT))
