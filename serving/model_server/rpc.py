"""The gRPC side: PredictionService, ModelService, health.

On grpc.aio: one loop thread serves all connections, and a short run stays on it (dispatch.py says why).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model_server.dispatch import Dispatch
from serving.model_server.faults import Code, grpc_text
from serving.model_server.protos import HealthCheckRequest, HealthCheckResponse
from serving.model_server.service import Service, code_of

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
HEALTH = "grpc.health.v1.Health"
HEALTHY_NAMES = ("ModelService", "PredictionService")
"""Not the full service names: so the official server registers them."""

LARGE_BYTES = 64 * 1024
"""A request above this size is not even parsed on the loop."""

Handler = Callable[[bytes, Any], Awaitable[bytes]]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Rpc:
    """The gRPC handlers of one service."""

    def __init__(self, service: Service, dispatch: Dispatch) -> None:
        self._service, self._dispatch = service, dispatch
        self._reloads = ThreadPoolExecutor(8, thread_name_prefix="reload")

    def handlers(self, *, health: bool = False) -> list[Any]:
        """All of them, for `grpc.aio.Server.add_generic_rpc_handlers`."""
        service = self._service
        prediction = {
            "Predict": self._model("Predict", predict_pb2.PredictRequest, service.predict),
            "Classify": self._model("Classify", classification_pb2.ClassificationRequest, service.classify),
            "Regress": self._model("Regress", regression_pb2.RegressionRequest, service.regress),
            "MultiInference": self._model(
                "MultiInference", inference_pb2.MultiInferenceRequest, service.multi_inference
            ),
            "GetModelMetadata": self._plain(get_model_metadata_pb2.GetModelMetadataRequest, service.model_metadata),
        }
        model = {
            "GetModelStatus": self._plain(get_model_status_pb2.GetModelStatusRequest, service.model_status),
            "HandleReloadConfigRequest": self._reload,
        }
        services: dict[str, dict[str, Handler]] = {PREDICTION: prediction, MODEL: model}
        if health:
            services[HEALTH] = {"Check": _check_health}
        return [
            grpc.method_handlers_generic_handler(
                name, {method: grpc.unary_unary_rpc_method_handler(handler) for method, handler in methods.items()}
            )
            for name, methods in services.items()
        ]

    def _model(self, api: str, kind: Any, answer: Callable[[Any], Any]) -> Handler:
        """A method that runs a model."""
        metrics = self._service.metrics

        async def handle(raw: bytes, context: Any) -> bytes:
            began = time.perf_counter()
            name = ""
            try:
                if len(raw) > LARGE_BYTES:
                    request = await self._dispatch(None, lambda: kind.FromString(raw))
                    key = None
                else:
                    request = kind.FromString(raw)
                    key = _key(api, request)
                name = _model_name(request)
                response: bytes = await self._dispatch(key, lambda: answer(request).SerializeToString())
            except Exception as error:  # noqa: BLE001 - the outermost loop of a request
                code = await_code(error)
                metrics.count_request(name, code[0])
                await _abort(context, code)
            metrics.count_request(name, Code.OK)
            metrics.request_latency.observe((time.perf_counter() - began) * 1e6, name, api, "GRPC")
            return response

        return handle

    def _plain(self, kind: Any, answer: Callable[[Any], Any]) -> Handler:
        """A method that only looks things up."""

        async def handle(raw: bytes, context: Any) -> bytes:
            try:
                response: bytes = answer(kind.FromString(raw)).SerializeToString()
            except Exception as error:  # noqa: BLE001 - the outermost loop of a request
                await _abort(context, await_code(error))
            return response

        return handle

    async def _reload(self, raw: bytes, context: Any) -> bytes:
        """Reloads wait in threads of their own, and stop to wait when their caller is gone."""
        gone = threading.Event()
        try:
            request = model_management_pb2.ReloadConfigRequest.FromString(raw)
            work = self._service.reload
            loop = asyncio.get_running_loop()
            response = await loop.run_in_executor(self._reloads, lambda: work(request, given_up=gone.is_set))
        except asyncio.CancelledError:
            gone.set()
            raise
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            await _abort(context, await_code(error))
        return bytes(response.SerializeToString())


def await_code(error: Exception) -> tuple[Code, str]:
    """Code and text of an error; bytes that are no message are the transport's fault."""
    if isinstance(error, DecodeError):
        return Code.INTERNAL, "Exception deserializing request!"
    return code_of(error)


async def _abort(context: Any, code: tuple[Code, str]) -> NoReturn:
    await context.abort(_CODES[int(code[0])], grpc_text(code[1]))
    raise AssertionError("abort raises")


def _key(api: str, request: Any) -> tuple[str, str, str] | None:
    if api == "MultiInference":
        return None
    spec = request.model_spec
    return api, spec.name, spec.signature_name


def _model_name(request: Any) -> str:
    spec = getattr(request, "model_spec", None)
    if spec is not None:
        return str(spec.name)
    return str(request.tasks[0].model_spec.name) if request.tasks else ""


async def _check_health(raw: bytes, context: Any) -> bytes:
    name = HealthCheckRequest.FromString(raw).service
    if name not in ("", *HEALTHY_NAMES):
        await context.abort(grpc.StatusCode.NOT_FOUND, "")
    return bytes(HealthCheckResponse(status=1).SerializeToString())


async def start(
    rpc: Rpc,
    addresses: Sequence[str],
    *,
    credentials: Any = None,
    health: bool = False,
    channel_arguments: Sequence[tuple[str, int | str]] = (),
) -> tuple[Any, list[int]]:
    """Open the ports; return the server and the port of each address.

    Raises:
        OSError: an address cannot be bound.
    """
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        *channel_arguments,
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(rpc.handlers(health=health))
    ports = []
    for address in addresses:
        try:
            secure = credentials is not None and not address.startswith("unix:")
            port = server.add_secure_port(address, credentials) if secure else server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        ports.append(port)
    await server.start()
    return server, ports
