"""The model server's gRPC API as the follower uses it: every call has a deadline, every failure one of three meanings.

Away (UnavailableError: try again), not loaded (NotLoadedError: look at the status), refused (CallRefusedError: the same call
will fail again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from feedback.errors import EverloopError, UnavailableError
from serving.follower.order import Position
from serving.follower.plan import Configure, Loaded, State
from serving.follower.settings import DeadlineSettings
from serving.follower.tensors import integers, strings
from serving.protocol import serving_pb2 as wire

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
_CANCELLED = 1
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class NotLoadedError(EverloopError):
    """The model, version or label is not on the server."""


class CallRefusedError(EverloopError):
    """The server understood and refused; the same call will fail again."""


@dataclass(frozen=True)
class Answer:
    """What `sync` or `checksum` answered."""

    sequences: list[int]
    values: list[int]
    """Epochs (`sync`) or checksums (`checksum`)."""
    version: int
    """The version that answered."""

    @property
    def position(self) -> Position:
        """How far the model has come: the furthest of the answers to a batch."""
        return max(Position(epoch, sequence) for epoch, sequence in zip(self.values, self.sequences, strict=True))


class ModelServer:
    """A client of one model server; may be used by several threads."""

    def __init__(self, address: str, *, model: str, deadlines: DeadlineSettings) -> None:
        self.address, self.model = address, model
        self._deadlines = deadlines
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._predict = self._method(_PREDICT, wire.PredictResponse)
        self._status = self._method(_STATUS, wire.GetModelStatusResponse)
        self._reload = self._method(_RELOAD, wire.ReloadConfigResponse)

    def _method(self, path: str, response: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return method

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def status(self) -> dict[int, Loaded]:
        """Every version that is on the server or failed to get there.

        Raises:
            UnavailableError: the server does not answer.
        """
        request = wire.GetModelStatusRequest()
        request.model_spec.name = self.model
        try:
            answer = self._call(self._status, request, self._deadlines.status_s)
        except NotLoadedError:
            return {}
        found = ((entry.version, _loaded(entry)) for entry in answer.model_version_status)
        return {version: loaded for version, loaded in found if loaded is not None}

    def configure(self, wanted: Configure, *, base_path: str, platform: str) -> None:
        """Replace the server's whole configuration.

        Raises:
            UnavailableError: the server does not answer, or not in time.
            CallRefusedError: it refused, e.g. a label on a version that is not available.
        """
        request = wire.ReloadConfigRequest()
        entry = request.config.model_config_list.config.add()
        entry.name, entry.base_path, entry.model_platform = self.model, base_path, platform
        entry.model_version_policy.specific.SetInParent()
        entry.model_version_policy.specific.versions.extend(wanted.versions)
        for label, version in wanted.labels:
            entry.version_labels[label] = version
        answer = self._call(self._reload, request, self._deadlines.reload_s)
        if answer.status.error_code:
            raise CallRefusedError(f"reload: {answer.status.error_message}")

    def labelled(self, label: str) -> int:
        """The version that a label stands on; 0: none.

        Raises:
            UnavailableError: the server does not answer.
        """
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.version_label = self.model, label
        try:
            return self._sync(request, [b""]).version
        except (NotLoadedError, CallRefusedError):
            return 0

    def ask(self, version: int) -> Position:
        """Where a loaded version is in its line. Raises as `sync`."""
        return self.sync(version, [b""]).position

    def sync(self, version: int, deltas: Sequence[bytes]) -> Answer:
        """Give deltas to a loaded version.

        Raises:
            UnavailableError: no answer: some of them may have been applied all the same.
            NotLoadedError: the version is not there.
            CallRefusedError: it has no such signature, or the graph could not read a delta.
        """
        return self._sync(self._request(version), deltas)

    def _sync(self, request: wire.PredictRequest, deltas: Sequence[bytes]) -> Answer:
        request.model_spec.signature_name = "sync"
        request.inputs["delta"].CopyFrom(strings(deltas))
        answer = self._call(self._predict, request, self._deadlines.sync_s)
        return _answer(answer, "sequence", "epoch")

    def checksum(self, version: int, probe: bytes) -> Answer:
        """Ask a loaded version for a checksum of a sample of its rows. Raises as `sync`."""
        request = self._request(version)
        request.model_spec.signature_name = "checksum"
        request.inputs["probe"].CopyFrom(strings([probe]))
        answer = self._call(self._predict, request, self._deadlines.sync_s)
        return _answer(answer, "sequence", "checksum")

    def predict(self, version: int, inputs: Mapping[str, wire.TensorProto]) -> wire.PredictResponse:
        """Run `serving_default` of a loaded version. Raises as `sync`."""
        request = self._request(version)
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tensor)
        answer: wire.PredictResponse = self._call(self._predict, request, self._deadlines.predict_s)
        return answer

    def _request(self, version: int) -> wire.PredictRequest:
        request = wire.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.version.value = version
        return request

    def _call(self, method: Callable[..., Any], request: Any, deadline_s: float) -> Any:
        try:
            return method(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise _translated(error, self.address) from error


def _translated(error: Any, address: str) -> EverloopError:
    code, text = error.code(), error.details()
    if code is grpc.StatusCode.NOT_FOUND:
        return NotLoadedError(f"model server {address}: {text}")
    if code in _AWAY:
        return UnavailableError(f"model server {address}: {code.name}: {text}")
    return CallRefusedError(f"model server {address}: {code.name}: {text}")


def _loaded(entry: wire.ModelVersionStatus) -> Loaded | None:
    state, status = entry.state, entry.status
    if state == wire.ModelVersionStatus.AVAILABLE:
        return Loaded(state=State.AVAILABLE)
    if state == wire.ModelVersionStatus.UNLOADING:
        return Loaded(state=State.LEAVING)
    if state == wire.ModelVersionStatus.END:
        # A version that was withdrawn while it was loading ends as CANCELLED: that says nothing about the version.
        failed = status.error_code not in (0, _CANCELLED)
        return Loaded(state=State.FAILED, error=status.error_message) if failed else None
    return Loaded(state=State.LOADING)


def _answer(answer: wire.PredictResponse, sequence: str, value: str) -> Answer:
    missing = {sequence, value} - set(answer.outputs)
    if missing:
        raise CallRefusedError(f"the model answered without {', '.join(sorted(missing))}")
    return Answer(
        integers(answer.outputs[sequence]), integers(answer.outputs[value]), int(answer.model_spec.version.value)
    )
