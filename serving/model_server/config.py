"""The list of models to serve: where it comes from, what is refused, and labels.

Pure: a ModelServerConfig (a text file or a HandleReloadConfigRequest) in, checked models and labels out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.faults import invalid, precondition
from serving.model_server.policy import Policy, from_proto

PLATFORM = "tensorflow"
Labels = Mapping[str, Mapping[str, int]]
"""Model → label → version."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model to serve."""

    name: str
    base_path: str
    platform: str
    policy: Policy
    labels: Mapping[str, int]


def single_model(name: str, base_path: str) -> Any:
    """The configuration that `--model_name` and `--model_base_path` make."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def parse_text(text: str, *, file: str) -> Any:
    """A ModelServerConfig from its text form.

    Raises:
        ServingError: the text is no such message.
    """
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise invalid(f"Invalid protobuf file: '{file}': {error}") from error
    return config


def read_models(config: Any, *, running: Mapping[str, Model]) -> dict[str, Model]:
    """The models of a configuration, checked by themselves and against those that run.

    Raises:
        ServingError: what is wrong with which model.
    """
    models: dict[str, Model] = {}
    entries = config.model_config_list.config
    for entry in entries:
        if entry.name in models:
            raise invalid(f"Illegal to list model {entry.name} multiple times in config list")
        models[entry.name] = _model(entry)
    for model in models.values():
        if not _is_absolute(model.base_path):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    for model in models.values():
        before = running.get(model.name)
        if before and before.platform != model.platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was {before.platform} and new "
                f"platform requested is {model.platform}"
            )
    for model in models.values():
        if model.platform != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {model.platform}")
    return models


def _model(entry: Any) -> Model:
    platform = entry.model_platform
    if platform and entry.model_type:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if not platform and not entry.model_type:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if not platform:
        platform = PLATFORM if entry.model_type == model_server_config_pb2.TENSORFLOW else "other"
    return Model(
        name=entry.name,
        base_path=entry.base_path,
        platform=platform,
        policy=from_proto(entry.model_version_policy),
        labels=dict(entry.version_labels),
    )


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9.+-]*://", path) is not None


def assign_labels(
    models: Mapping[str, Model],
    *,
    before: Labels,
    is_available: Callable[[str, int], bool],
    allow_unavailable: bool,
) -> Labels:
    """The labels of a configuration. A label may only point to a version that answers.

    `allow_unavailable` lets a label that is new point to a version that is not loaded yet; one that exists may not move
    to such a version even then.

    Raises:
        ServingError: a label points where it may not.
    """
    for model in models.values():
        known = before.get(model.name, {})
        for label, version in model.labels.items():
            moved = label in known and known[label] != version
            if is_available(model.name, version) or (allow_unavailable and not moved):
                continue
            raise precondition(
                f"Request to assign label to version {version} of model {model.name}, which is not currently available "
                "for inference"
            )
    return {model.name: dict(model.labels) for model in models.values() if model.labels}
