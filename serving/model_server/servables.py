"""Loaded versions, and the map in which a request finds its own.

The map is immutable and swapped whole, so that a look-up takes no lock. A servable counts its users: a request that began
on a version ends on it, and the version's memory is freed after its last request.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from serving.model_server.bundle import Bundle, Runner
from serving.model_server.faults import missing


class Drained(Exception):
    """The servable was withdrawn between look-up and use."""


class Servable:
    """One loaded version. `with servable:` keeps it in memory."""

    def __init__(self, model: str, version: int, bundle: Bundle, runner: Runner | None = None) -> None:
        self.model, self.version, self.bundle = model, version, bundle
        self.runner: Runner = runner or bundle
        self._users = 0
        self._closed = False
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)

    def __enter__(self) -> Self:
        with self._lock:
            if self._closed:
                raise Drained
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self._idle.notify_all()

    @property
    def users(self) -> int:
        """Requests that run on it now."""
        return self._users

    def close(self) -> None:
        """Take no more users, wait for those there are, free the memory."""
        with self._lock:
            self._closed = True
            self._idle.wait_for(lambda: not self._users)
        stop = getattr(self.runner, "stop", None)
        if stop is not None:
            stop()
        self.bundle.close()


class ServingMap:
    """Model → version → servable, immutable."""

    def __init__(self, models: Mapping[str, Mapping[int, Servable]] | None = None) -> None:
        self._models = MappingProxyType({name: dict(versions) for name, versions in (models or {}).items() if versions})
        self._latest = {name: versions[max(versions)] for name, versions in self._models.items()}

    def find(self, model: str, version: int | None) -> Servable:
        """The version asked for; without one, the highest.

        Raises:
            ServingError: it is not loaded.
        """
        if version is None:
            latest = self._latest.get(model)
            if latest is None:
                raise missing(f"Servable not found for request: Latest({model})")
            return latest
        found = self._models.get(model, {}).get(version)
        if found is None:
            raise missing(f"Servable not found for request: Specific({model}, {version})")
        return found

    def with_servable(self, servable: Servable) -> ServingMap:
        """A new map that has this one too."""
        models = {**self._models, servable.model: {**self._models.get(servable.model, {}), servable.version: servable}}
        return ServingMap(models)

    def without(self, servable: Servable) -> ServingMap:
        """A new map that lacks this one."""
        versions = {v: s for v, s in self._models.get(servable.model, {}).items() if s is not servable}
        return ServingMap({**self._models, servable.model: versions})
