"""The threads that load and unload versions, one decision of transition.py per tick.

A load runs in a load thread (or, with none configured, in the deciding thread, as the official server does), tries again
at a fixed interval, and is called off when the version is withdrawn meanwhile. A new version answers as soon as the map
has it, and is published as AVAILABLE after that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from feedback import turns
from serving.model_server.faults import Code, ServingError
from serving.model_server.servables import Servable, ServingMap
from serving.model_server.status import State, StatusBoard
from serving.model_server.transition import TICK_S, Action, Phase, View, choose, forgettable

Loader = Callable[[str, int, str], Servable]
"""(model, version, path) → a servable, warm; raises ServingError."""


@dataclass(frozen=True, kw_only=True)
class LifecycleSettings:
    """How versions are loaded."""

    load_threads: int = 0
    """Threads that load; 0 = the deciding thread itself, which then decides nothing else meanwhile."""
    unload_threads: int = 0
    """Threads that unload; 0 = the deciding thread itself."""
    max_retries: int = 5
    """Attempts after the first, whatever the error."""
    retry_interval_s: float = 60.0
    """Seconds between two attempts."""


@dataclass
class _Harness:
    """One managed version."""

    model: str
    version: int
    path: str
    aspired: bool = True
    phase: Phase = Phase.NEW
    withdrawn: threading.Event = field(default_factory=threading.Event)
    servable: Servable | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether it must be gone before the same number can be loaded again."""
        return not self.aspired and self.phase in (Phase.LOADING, Phase.UNLOADING)

    def view(self) -> View:
        return View(version=self.version, phase=self.phase, aspired=self.aspired)


class Lifecycle:
    """Keeps what is loaded equal to what is aspired."""

    def __init__(self, loader: Loader, board: StatusBoard, settings: LifecycleSettings) -> None:
        self.serving = ServingMap()
        self._loader, self._board, self._settings = loader, board, settings
        self._models: dict[str, dict[int, _Harness]] = {}
        self._pending: dict[str, dict[int, str]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._first = ThreadPoolExecutor(4 * (os.cpu_count() or 1), thread_name_prefix="first-load")
        self._starting = True
        self._loads = _pool(settings.load_threads, "load")
        self._unloads = _pool(settings.unload_threads, "unload")
        self._thread = threading.Thread(target=self._decide, name="versions", daemon=True)

    def start(self) -> None:
        """Begin to load and unload."""
        self._thread.start()

    def started(self) -> None:
        """The first models are up: from now on load with the configured number of threads, not with all there are."""
        self._starting = False
        self._first.shutdown(wait=False)

    def stop(self) -> None:
        """Take no more decisions. What is loaded stays in memory until the process ends."""
        self._stop.set()
        self._wake.set()
        for pool in (self._first, self._loads, self._unloads):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def aspire(self, model: str, versions: Mapping[int, str]) -> None:
        """Make these versions, and no others, the ones that shall be loaded."""
        with self._lock:
            self._pending[model] = dict(versions)
        self._wake.set()

    def managed(self, model: str, version: int) -> bool:
        """Whether a version is in the books."""
        with self._lock:
            return version in self._models.get(model, {})

    def _decide(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._take_pending()
                self._forget()
                action = choose({name: [h.view() for h in hs.values()] for name, hs in self._models.items()})
                harness = self._begin(action) if action else None
            if action and harness:
                self._carry_out(action, harness)
            self._stop.wait(TICK_S)

    def _take_pending(self) -> None:
        for model, wanted in list(self._pending.items()):
            managed = self._models.setdefault(model, {})
            if any(version in wanted and harness.is_leaving for version, harness in managed.items()):
                continue
            del self._pending[model]
            for version, harness in list(managed.items()):
                if version not in wanted:
                    harness.aspired = False
                    harness.withdrawn.set()
                elif not harness.aspired and harness.phase is Phase.READY:
                    harness.aspired = True
                    harness.withdrawn.clear()
                elif not harness.aspired:
                    del managed[version]
            for version, path in wanted.items():
                if version not in managed:
                    managed[version] = _Harness(model, version, path)
                    self._board.publish(model, version, State.START)

    def _forget(self) -> None:
        for model, managed in list(self._models.items()):
            for version, harness in list(managed.items()):
                if forgettable(harness.view()):
                    if harness.phase is Phase.NEW:
                        self._board.publish(model, version, State.END)
                    del managed[version]
            if not managed and model not in self._pending:
                del self._models[model]

    def _begin(self, action: Action) -> _Harness:
        harness = self._models[action.model][action.version]
        harness.phase = Phase.LOADING if action.load else Phase.UNLOADING
        self._board.publish(action.model, action.version, State.LOADING if action.load else State.UNLOADING)
        return harness

    def _carry_out(self, action: Action, harness: _Harness) -> None:
        if action.load:
            pool, job = (self._first if self._starting else self._loads), self._load
        else:
            pool, job = self._unloads, self._unload
        if pool is None:
            job(harness)
        else:
            pool.submit(job, harness)

    def _load(self, harness: _Harness) -> None:
        try:
            servable = self._attempt(harness)
        except ServingError as error:
            self._end(harness, Phase.FAILED, error)
            return
        if harness.withdrawn.is_set():
            servable.close()
            self._end(harness, Phase.DONE, _cancelled())
            return
        with self._lock:
            harness.servable = servable
            self.serving = self.serving.with_servable(servable)
            harness.phase = Phase.READY
        self._board.publish(harness.model, harness.version, State.AVAILABLE)

    def _attempt(self, harness: _Harness) -> Servable:
        for attempt in range(self._settings.max_retries + 1):
            try:
                return self._loader(harness.model, harness.version, harness.path)
            except ServingError as error:
                if harness.withdrawn.is_set():
                    raise _cancelled() from error
                if attempt == self._settings.max_retries:
                    raise
            if harness.withdrawn.wait(self._settings.retry_interval_s):
                raise _cancelled()
        raise _cancelled()

    def _unload(self, harness: _Harness) -> None:
        servable, harness.servable = harness.servable, None
        if servable is not None:
            with self._lock:
                self.serving = self.serving.without(servable)
            servable.close()
        self._end(harness, Phase.DONE, None)

    def _end(self, harness: _Harness, phase: Phase, error: ServingError | None) -> None:
        with self._lock:
            harness.phase = phase
        self._board.publish(harness.model, harness.version, State.END, error)


def _cancelled() -> ServingError:
    return ServingError(Code.CANCELLED, "Loading of servable cancelled")


def _pool(threads: int, name: str) -> ThreadPoolExecutor | None:
    if threads <= 0:
        return None
    return ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=turns.stand_back)
