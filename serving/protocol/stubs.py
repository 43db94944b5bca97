"""The services' methods on a channel: `grpc.Channel` gives blocking calls, `grpc.aio.Channel` awaitable ones."""

from __future__ import annotations

from typing import Any, Final

from serving.protocol.serving_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"

UNLIMITED: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""Channel options without which a delta above 4 MiB does not pass."""


class ModelServer:
    """The three methods that gateway and follower call. Each takes a request and `timeout=` in seconds."""

    def __init__(self, channel: Any) -> None:
        self.predict = channel.unary_unary(
            f"/{PREDICTION_SERVICE}/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        self.status = channel.unary_unary(
            f"/{MODEL_SERVICE}/GetModelStatus",
            request_serializer=GetModelStatusRequest.SerializeToString,
            response_deserializer=GetModelStatusResponse.FromString,
        )
        self.reload = channel.unary_unary(
            f"/{MODEL_SERVICE}/HandleReloadConfigRequest",
            request_serializer=ReloadConfigRequest.SerializeToString,
            response_deserializer=ReloadConfigResponse.FromString,
        )
