"""A gRPC proxy that fails on purpose: stand it between follower and model server for tests and drills.

It fails calls before they reach the server, or after the server has done the work and before the answer comes back: the second
is the one that makes systems apply things twice.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from serving.protocol import serving_pb2 as wire

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class FaultyProxy:
    """Forwards every unary call to `target`; fails a share of those of one signature.

    >>> with FaultyProxy("127.0.0.1:8500", share=0.1, signature="sync", seed=7) as proxy:  # doctest: +SKIP
    ...     run(model_server=proxy.address, ...)
    """

    def __init__(self, target: str, *, share: float, signature: str = "sync", seed: int = 0, port: int = 0) -> None:
        self.share, self.signature = share, signature
        self.failed_before = self.failed_after = self.forwarded = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(16), options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handler(self._forward),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def address(self) -> str:
        """HOST:PORT to give to the follower."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()
        self._channel.close()

    def _forward(self, path: str, request: bytes, context: Any) -> bytes:
        fault = self._fault(path, request)
        if fault == "before":
            context.abort(grpc.StatusCode.UNAVAILABLE, "failed on purpose, before the call")
        try:
            answer: bytes = self._channel.unary_unary(path)(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if fault == "after":
            context.abort(grpc.StatusCode.UNAVAILABLE, "failed on purpose, after the call")
        return answer

    def _fault(self, path: str, request: bytes) -> str:
        with self._lock:
            self.forwarded += 1
            if path != _PREDICT or self._signature(request) != self.signature or self._random.random() >= self.share:
                return ""
            if self._random.random() < 0.5:
                self.failed_before += 1
                return "before"
            self.failed_after += 1
            return "after"

    @staticmethod
    def _signature(request: bytes) -> str:
        return str(wire.PredictRequest.FromString(request).model_spec.signature_name)


class _Handler(grpc.GenericRpcHandler):
    """Any method, bytes in and bytes out."""

    def __init__(self, forward: Any) -> None:
        self._forward = forward

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._forward(path, request, context))
