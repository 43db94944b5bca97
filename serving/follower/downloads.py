"""Versions on their way to the model server's folder: one download at a time, beside the loop; what failed is tried again later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from feedback.errors import EverloopError, UnavailableError
from feedback.versions import Manifest
from serving.follower.fetch import fetch, on_disk, remove, sweep
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")


class Downloads:
    """What lies in the server's folder, and what is coming. Of the thread that runs the loop."""

    def __init__(self, folder: Path, settings: FollowerSettings, *, on_done: Callable[[], None]) -> None:
        self._folder, self._settings, self._on_done = folder, settings, on_done
        self.local: dict[int, Manifest] = {}
        """Versions that are there, whole and verified."""
        self.failures: dict[int, str] = {}
        """Why the last download of a version failed."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._running: dict[int, Future[Manifest]] = {}
        self._attempts: dict[int, int] = {}
        self._again: dict[int, float] = {}

    def start(self) -> None:
        """Tidy the folder and see what is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)
        self.local = on_disk(self._folder)

    def begin(self, version: int, uri: str) -> None:
        """Begin to download a version."""
        self._running[version] = self._pool.submit(
            fetch,
            uri,
            self._folder,
            model=self._settings.model,
            version=version,
            storage=self._settings.storage,
        )
        self._running[version].add_done_callback(lambda _: self._on_done())

    def collect(self, now: float) -> dict[int, str]:
        """Take what has come; answers the versions that will not be tried again, and why."""
        given_up = {}
        for version, future in list(self._running.items()):
            if not future.done():
                continue
            del self._running[version]
            error = future.exception()
            if error is None:
                self.local[version] = future.result()
                self._attempts.pop(version, None)
                self.failures.pop(version, None)
            elif not isinstance(error, EverloopError):
                raise error
            elif self._failed(version, error, now):
                given_up[version] = str(error)
        return given_up

    def coming(self, now: float) -> frozenset[int]:
        """Versions that are being downloaded, or wait for another try."""
        return frozenset(self._running) | {version for version, at in self._again.items() if now < at}

    def forget(self, version: int) -> None:
        """Delete a version from the folder."""
        remove(self._folder, version)
        self.local.pop(version, None)

    def close(self) -> None:
        """Let the running download end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _failed(self, version: int, error: EverloopError, now: float) -> bool:
        """Note a failure; whether it was the last try. A store that is away says nothing against the version."""
        self._again[version] = now + self._settings.fetch_retry_s
        self.failures[version] = str(error)
        log.warning("version %s was not downloaded: %s", version, error)
        if isinstance(error, UnavailableError):
            return False
        self._attempts[version] = self._attempts.get(version, 0) + 1
        return self._attempts[version] >= self._settings.fetch_attempts
