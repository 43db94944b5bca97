"""The data folder: what lies where in it, and who may use it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.errors import UsageError


def default_data(environ: Mapping[str, str]) -> Path:
    """Return $EVERLOOP_DATA, or everloop's folder among the user's data."""
    if named := environ.get("EVERLOOP_DATA"):
        return Path(named)
    root = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "everloop"


@dataclass(frozen=True)
class Folders:
    """The layout of one data folder."""

    root: Path

    @property
    def kafka(self) -> Path:
        """The Kafka node's configuration and log segments."""
        return self.root / "kafka"

    @property
    def redis(self) -> Path:
        """The Redis server's snapshots."""
        return self.root / "redis"

    @property
    def join(self) -> Path:
        """The join's local state, one store per partition."""
        return self.root / "join"

    @property
    def models(self) -> Path:
        """Exported SavedModel versions."""
        return self.root / "models"

    @property
    def serving(self) -> Path:
        """What the model server loads from: verified copies, written by the follower."""
        return self.root / "serving"

    @property
    def checkpoints(self) -> Path:
        """The trainer's checkpoints."""
        return self.root / "checkpoints"

    @property
    def spool(self) -> Path:
        """The gateway's write-ahead log of predictions."""
        return self.root / "spool"

    @property
    def logs(self) -> Path:
        """One file of JSON lines per part."""
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Held by the `up` that runs in this folder."""
        return self.root / "lock"

    @property
    def runtime(self) -> Path:
        """What runs: written by `up`, read by the other commands."""
        return self.root / "runtime.json"


@contextmanager
def exclusive(folders: Folders) -> Iterator[None]:
    """Hold the data folder's lock; the system releases it however this process ends.

    Raises:
        UsageError: another `up` holds it.
    """
    folders.root.mkdir(parents=True, exist_ok=True)
    with folders.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"already up in {folders.root} (pid {folders.lock.read_text(encoding='utf-8')})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def held(folders: Folders) -> bool:
    """Say whether an `up` runs in this data folder."""
    try:
        with folders.lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def owner(folders: Folders) -> int:
    """Return the process id of the `up` that holds the data folder's lock."""
    return int(folders.lock.read_text(encoding="utf-8"))
