"""The requests that gateway and follower make, and what they read from the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serving.protocol.serving_pb2 import (
    FileSystemStoragePathSourceConfig,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelConfig,
    ModelConfigList,
    ModelServerConfig,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    ReloadConfigRequest,
    TensorProto,
)

_Policy = FileSystemStoragePathSourceConfig.ServableVersionPolicy


@dataclass(frozen=True)
class VersionState:
    """One version of a model as GetModelStatus tells it."""

    version: int
    """The version's number."""
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    code: int
    """gRPC status code of its last error; 0: none."""
    message: str
    """The error's text."""


def spec(model: str, *, version: int = 0, label: str = "", signature: str = "") -> ModelSpec:
    """Name a model, by `version` or `label` if one is given, and one of its signatures."""
    made = ModelSpec(name=model, signature_name=signature)
    if version:
        made.version.value = version
    elif label:
        made.version_label = label
    return made


def predict(target: ModelSpec, inputs: Mapping[str, TensorProto], outputs: Iterable[str] = ()) -> PredictRequest:
    """Ask a signature for `outputs` (none: for all)."""
    return PredictRequest(model_spec=target, inputs=inputs, output_filter=outputs)


def status(model: str, *, version: int = 0) -> GetModelStatusRequest:
    """Ask for the state of every version of a model, or of one."""
    return GetModelStatusRequest(model_spec=spec(model, version=version))


def states(answer: GetModelStatusResponse) -> list[VersionState]:
    """The versions' states, the newest version first."""
    found = [
        VersionState(s.version, ModelVersionStatus.State.Name(s.state), s.status.error_code, s.status.error_message)
        for s in answer.model_version_status
    ]
    return sorted(found, key=lambda state: -state.version)


def reload(model: str, base_path: str, *, versions: Iterable[int], labels: Mapping[str, int]) -> ReloadConfigRequest:
    """Ask a model server to serve exactly `versions` of one model, with these labels.

    A label is only accepted for a version that is AVAILABLE, unless the server runs with
    `--allow_version_labels_for_unavailable_models`.
    """
    config = ModelConfig(
        name=model,
        base_path=base_path,
        model_platform="tensorflow",
        model_version_policy=_Policy(specific=_Policy.Specific(versions=versions)),
        version_labels=labels,
    )
    return ReloadConfigRequest(config=ModelServerConfig(model_config_list=ModelConfigList(config=[config])))
