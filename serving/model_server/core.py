"""The server without its ports: models, versions, labels, and who answers a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from serving.model_server.config import Labels, Model, assign_labels, read_models
from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.lifecycle import Lifecycle, LifecycleSettings, Loader
from serving.model_server.policy import Specific, aspired
from serving.model_server.servables import Drained, Servable
from serving.model_server.status import State, StatusBoard
from serving.model_server.storage import list_versions

log = logging.getLogger("everloop.model_server")


@dataclass(frozen=True, kw_only=True)
class CoreSettings:
    """How models are found."""

    poll_wait_s: int = 1
    """Seconds between two looks at the file system; 0 = look once, below 0 = never."""
    allow_labels_for_unavailable: bool = False
    """Let a new label point to a version that is not loaded yet."""


class Core:
    """Models by configuration, versions by the file system, servables by request."""

    def __init__(self, loader: Loader, settings: CoreSettings, lifecycle: LifecycleSettings) -> None:
        self.board = StatusBoard()
        self._lifecycle = Lifecycle(loader, self.board, lifecycle)
        self._settings = settings
        self._models: dict[str, Model] = {}
        self._labels: Labels = {}
        self._config = threading.Lock()
        self._polling = threading.Lock()
        self._look = threading.Event()
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll_forever, name="poll", daemon=True)

    def start(self, config: Any) -> None:
        """Load the first configuration; return when each of its models answers.

        Raises:
            ServingError: the configuration is wrong, or a model's only version failed for good.
        """
        self._lifecycle.start()
        self._thread.start()
        self.reload(config, what="servable")
        self._lifecycle.started()

    def stop(self) -> None:
        """End the threads; what is loaded goes with the process."""
        self.stopped.set()
        self._look.set()
        self._lifecycle.stop()

    def find(self, spec: Any) -> Servable:
        """The servable that a ModelSpec names, already entered: the caller leaves it with `__exit__`.

        Raises:
            ServingError: it is not there.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version = self._version(spec)
        while True:
            servable = self._lifecycle.serving.find(spec.name, version)
            try:
                return servable.__enter__()
            except Drained:
                continue

    def servable(self, model: str, version: int) -> Servable:
        """A loaded version, not entered: for looking at.

        Raises:
            ServingError: it is not there.
        """
        return self._lifecycle.serving.find(model, version)

    def managed(self, model: str, version: int) -> bool:
        """Whether a version is in the books: wanted, loaded, or failed while its directory is still there."""
        return self._lifecycle.managed(model, version)

    def paused(self) -> AbstractContextManager[object]:
        """While entered, nobody looks at the file system."""
        return self._polling

    def _version(self, spec: Any) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            return None
        if choice == "version":
            return int(spec.version.value)
        version = self._labels.get(spec.name, {}).get(spec.version_label)
        if version is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return version

    def reload(self, config: Any, *, what: str = "model", given_up: Callable[[], bool] = lambda: False) -> None:
        """Replace the configuration; return when each model that is new answers.

        `given_up` says that nobody waits any more: then the configuration stays in force and the wait ends, where the
        official server would block every later reload.

        Raises:
            ServingError: the configuration is wrong, a label points where it may not, or a new model failed for good.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        while not self._config.acquire(timeout=0.2):
            if given_up():
                raise ServingError(Code.CANCELLED, "The caller of this reload went away while another one ran")
        try:
            self._apply(config, what, given_up)
        finally:
            self._config.release()

    def _apply(self, config: Any, what: str, given_up: Callable[[], bool]) -> None:
        models = read_models(config, running=self._models)
        new = [name for name in models if name not in self._models]
        labels = assign_labels(
            models,
            before=self._labels,
            is_available=self.board.is_available,
            allow_unavailable=self._settings.allow_labels_for_unavailable,
        )
        removed = [name for name in self._models if name not in models]
        with self._polling:
            self._labels, self._models = labels, models
            for name in removed:
                self._lifecycle.aspire(name, {})
        self._look.set()
        self._wait_for(new, what, given_up)

    def _wait_for(self, names: list[str], what: str, given_up: Callable[[], bool]) -> None:
        since = {name: self.board.versions(name) for name in names}
        settled = False
        while not settled and not given_up() and not self.stopped.is_set():
            settled = self.board.wait(lambda: all(self._settled(name, since[name]) for name in names), timeout_s=0.2)
        failed = [name for name in names if settled and not self._available(name)]
        if failed:
            raise ServingError(Code.UNKNOWN, self._failure(failed, what))

    def _settled(self, name: str, before: Any) -> bool:
        known = self.board.versions(name)
        fresh = [status for version, status in known.items() if before.get(version) is not status]
        return self._available(name) or (bool(fresh) and all(status.state is State.END for status in fresh))

    def _available(self, name: str) -> bool:
        return any(status.state is State.AVAILABLE for status in self.board.versions(name).values())

    def _failure(self, names: list[str], what: str) -> str:
        parts = []
        for name in names:
            version, status = next(iter(self.board.versions(name).items()))
            reason = f" due to error: {status.error.status}" if status.error else ""
            parts.append(f"{{name: {name} version: {version}}}{reason}}}, ")
        return f"{len(names)} {what}(s) did not become available: {{{''.join(parts)}}}"

    def _poll_forever(self) -> None:
        """Look at the file system each period, and at once after a reload: a new version need not wait for the period."""
        wait_s = self._settings.poll_wait_s
        looked = False
        while not self.stopped.is_set():
            triggered = self._look.wait(wait_s if wait_s > 0 else None)
            self._look.clear()
            if self.stopped.is_set() or wait_s < 0 or (wait_s == 0 and looked and triggered):
                continue
            looked = True
            self.poll()

    def poll(self) -> None:
        """Look at the file system once. The first base path that is missing ends the look for every model."""
        with self._polling:
            found = {}
            for model in self._models.values():
                try:
                    present = list_versions(model.base_path, model=model.name)
                except ServingError as error:
                    log.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error.message)
                    return
                if not present:
                    log.warning("No versions of servable %s found under base path %s", model.name, model.base_path)
                if isinstance(model.policy, Specific) and (absent := set(model.policy.versions) - set(present)):
                    log.warning(
                        "Version(s) %s of servable %s not found under %s", sorted(absent), model.name, model.base_path
                    )
                found[model.name] = {version: present[version] for version in aspired(present, model.policy)}
            for name, versions in found.items():
                self._lifecycle.aspire(name, versions)
