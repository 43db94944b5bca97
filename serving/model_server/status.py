"""The published state of every version the server has ever known, and the answer to GetModelStatus.

Entries are never forgotten: a version that was unloaded stays as END, so the answer grows by one entry per swap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tensorflow_serving.apis import get_model_status_pb2

from serving.model_server.faults import Code, ServingError, invalid, missing


class State(IntEnum):
    """The states of the public API, with its numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What is known of one version."""

    state: State
    error: ServingError | None = None


class StatusBoard:
    """States by model and version; waits for changes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, VersionStatus]] = {}

    def publish(self, model: str, version: int, state: State, error: ServingError | None = None) -> None:
        """Record a state and wake those who wait for one."""
        with self._changed:
            self._models.setdefault(model, {})[version] = VersionStatus(state, error)
            self._changed.notify_all()

    def versions(self, model: str) -> dict[int, VersionStatus]:
        """All versions of a model, highest first."""
        with self._changed:
            known = self._models.get(model, {})
            return {version: known[version] for version in sorted(known, reverse=True)}

    def is_available(self, model: str, version: int) -> bool:
        """Whether requests for that version are answered."""
        known = self.versions(model).get(version)
        return known is not None and known.state is State.AVAILABLE

    def wait(self, ready: Callable[[], bool], *, timeout_s: float) -> bool:
        """Wait until `ready` says so, asking it at each change, at most `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(ready, timeout_s)


def model_status(board: StatusBoard, request: Any) -> Any:
    """Answer a GetModelStatusRequest. A label is ignored, even an unknown one, as the official server does.

    Raises:
        ServingError: no model named, or nothing known of it.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    known = board.versions(spec.name)
    if spec.HasField("version"):
        version = spec.version.value
        if version not in known:
            raise missing(f"Could not find version {version} of model {spec.name}")
        known = {version: known[version]}
    elif not known:
        raise missing(f"Could not find any versions of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, status in known.items():
        entry = response.model_version_status.add(version=version, state=int(status.state))
        entry.status.error_code = int(status.error.code if status.error else Code.OK)
        entry.status.error_message = status.error.message if status.error else ""
    return response
