"""All parts together: started in the order of their needs, watched, written down, stopped in the reverse order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from everloop.folders import Folders
from everloop.runtime.journal import Journal
from everloop.runtime.parts import Event, Part, State, waves
from everloop.runtime.runner import Runner
from everloop.runtime.settings import RuntimeSettings
from feedback.errors import UnavailableError


class Supervisor:
    """Starts parts, keeps them alive, says what happens, and stops them all.

    `tell` is called with every change of state, from the thread of the part that changed.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        folders: Folders,
        settings: RuntimeSettings,
        tell: Callable[[Event], None] = lambda _: None,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        self._waves = waves(parts)
        self._folders, self._tell = folders, tell
        self.addresses = dict(addresses or {})
        """Where a person or a client reaches what."""
        self._began = datetime.now(UTC)
        self._writing = threading.Lock()
        self.runners: dict[str, Runner] = {}
        for part in parts:
            self.runners[part.name] = Runner(
                part,
                needs=[self.runners[name] for name in part.after],
                settings=settings,
                journal=Journal(folders.logs / f"{part.name}.log", part=part.name, limit_bytes=settings.log_bytes),
                tell=self._heard,
            )

    def start(self) -> None:
        """Start all parts, each as soon as those that it needs are ready; returns at once."""
        for runner in self.runners.values():
            runner.start()

    def ready(self) -> bool:
        """Say whether every part is ready or done."""
        return all(runner.ready.is_set() for runner in self.runners.values())

    def failed(self) -> Runner | None:
        """Return a part that will not be started again, if there is one."""
        return next((each for each in self.runners.values() if each.state is State.FAILED), None)

    def wait_ready(self, *, timeout_s: float) -> None:
        """Wait until every part is ready.

        Raises:
            UnavailableError: a part has failed for good, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if failed := self.failed():
                raise UnavailableError(f"{failed.part.name}: {failed.detail}")
            if time.monotonic() > deadline:
                late = [name for name, runner in self.runners.items() if not runner.ready.is_set()]
                raise UnavailableError(f"not ready after {timeout_s:g} s: {', '.join(late)}")
            time.sleep(0.05)

    def stop(self, *, hurry: bool = False) -> None:
        """Stop all parts, those first that nobody needs any more; with `hurry` at once."""
        if hurry:
            self.hurry()
        for wave in self._waves:
            for name in wave:
                self.runners[name].stop()
            for name in wave:
                self.runners[name].join()
        self._folders.runtime.unlink(missing_ok=True)

    def hurry(self) -> None:
        """Kill what has not ended yet, from another thread than the one in `stop`."""
        for runner in self.runners.values():
            runner.hurry()

    def snapshot(self) -> dict[str, Any]:
        """Return what runs, as runtime.json holds it."""
        return {
            "pid": os.getpid(),
            "data": str(self._folders.root),
            "since": self._began.isoformat(timespec="milliseconds"),
            "addresses": self.addresses,
            "parts": {name: _as_row(runner) for name, runner in self.runners.items()},
        }

    def _heard(self, event: Event) -> None:
        with self._writing:
            _write(self._folders.runtime, msgspec.json.encode(self.snapshot()))
            self._tell(event)


def read(folders: Folders) -> dict[str, Any]:
    """Return what the `up` in this data folder has written down last; empty when nothing has."""
    try:
        found = msgspec.json.decode(folders.runtime.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def described(addresses: Mapping[str, str]) -> list[str]:
    """Write addresses as lines for people."""
    return [f"{name:<12}{address}" for name, address in addresses.items()]


def _as_row(runner: Runner) -> dict[str, Any]:
    return {
        "state": str(runner.state),
        "pid": runner.pid,
        "restarts": runner.restarts,
        "ports": dict(runner.part.ports),
        "since": runner.since.isoformat(timespec="milliseconds"),
        "detail": runner.detail,
    }


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_bytes(content)
    scratch.replace(path)
