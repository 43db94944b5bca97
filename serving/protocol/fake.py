"""A model server in this process whose model is a Python function: for tests of what stands around a model.

It speaks Predict, GetModelStatus and HandleReloadConfigRequest over a real socket. It has no SavedModel, no policies and
no loading: `versions` are simply there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc

from serving.protocol import serving_pb2 as pb
from serving.protocol.stubs import MODEL_SERVICE, PREDICTION_SERVICE, UNLIMITED

Model = Callable[[str, Mapping[str, pb.TensorProto]], Mapping[str, pb.TensorProto]]
"""From a signature's name and its inputs to its outputs. May raise `Refusal`."""


class Refusal(Exception):
    """What a fake model raises to answer with a gRPC error."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(text)


class FakeModelServer:
    """Serves `versions` of one model by name, with `labels`; the same function answers for each that is not in `models`."""

    def __init__(self, model: Model, *, name: str = "news", versions: tuple[int, ...] = (1,), port: int = 0) -> None:
        self.name, self.model, self.versions = name, model, set(versions)
        self.models: dict[int, Model] = {}
        self.labels: dict[str, int] = {"live": max(versions)} if versions else {}
        self.requests: list[pb.PredictRequest] = []
        self.reloads: list[pb.ReloadConfigRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(4), options=[*UNLIMITED, ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_handlers(self),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeModelServer:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop at once; calls in flight fail as UNAVAILABLE."""
        self._server.stop(grace=None).wait()

    def predict(self, request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        """Run the model's function."""
        self.requests.append(request)
        spec = request.model_spec
        version = self._version(spec, context)
        signature = spec.signature_name or "serving_default"
        try:
            outputs = self.models.get(version, self.model)(signature, request.inputs)
        except Refusal as refusal:
            context.abort(refusal.code, refusal.text)
        wanted = request.output_filter or outputs
        answer = pb.PredictResponse(outputs={name: outputs[name] for name in wanted})
        answer.model_spec.name, answer.model_spec.signature_name = spec.name, signature
        answer.model_spec.version.value = version
        return answer

    def status(self, request: pb.GetModelStatusRequest, context: Any) -> pb.GetModelStatusResponse:
        """Every version is AVAILABLE."""
        if request.model_spec.name != self.name or not self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
        available = pb.ModelVersionStatus.AVAILABLE
        found = [pb.ModelVersionStatus(version=v, state=available) for v in sorted(self.versions, reverse=True)]
        return pb.GetModelStatusResponse(model_version_status=found)

    def reload(self, request: pb.ReloadConfigRequest, context: Any) -> pb.ReloadConfigResponse:
        """Take the named model's versions and labels as they come."""
        self.reloads.append(request)
        for config in request.config.model_config_list.config:
            if config.name == self.name:
                self.versions = set(config.model_version_policy.specific.versions)
                self.labels = dict(config.version_labels)
        return pb.ReloadConfigResponse(status=pb.StatusProto())

    def _version(self, spec: pb.ModelSpec, context: Any) -> int:
        if spec.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label" and spec.version_label not in self.labels:
            text = f"Unrecognized servable version label: {spec.version_label}"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        labelled = self.labels[spec.version_label] if choice == "version_label" else max(self.versions, default=0)
        version = spec.version.value if choice == "version" else labelled
        if version not in self.versions:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})"
            )
        return version


def _handlers(server: FakeModelServer) -> Any:
    predict = _unary(server.predict, pb.PredictRequest, pb.PredictResponse)
    status = _unary(server.status, pb.GetModelStatusRequest, pb.GetModelStatusResponse)
    reload = _unary(server.reload, pb.ReloadConfigRequest, pb.ReloadConfigResponse)
    return _Services(
        {
            f"/{PREDICTION_SERVICE}/Predict": predict,
            f"/{MODEL_SERVICE}/GetModelStatus": status,
            f"/{MODEL_SERVICE}/HandleReloadConfigRequest": reload,
        }
    )


def _unary(function: Callable[..., Any], request: Any, response: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        function, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


class _Services(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)
