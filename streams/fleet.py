"""Worker processes for the chaos run and the benches: start them, kill them, freeze them, ask them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from streams.settings import StreamsSettings

HERE = Path(__file__).parents[1]


class Member:
    """One worker process under a stable name."""

    def __init__(
        self, name: str, *, kafka: KafkaSettings, settings: StreamsSettings, folder: Path, redis: str = ""
    ) -> None:
        self.name, self.kafka, self.folder = name, kafka, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "settings.json"
        self._settings.write_bytes(msgspec.json.encode(settings))
        self._redis = redis or "redis://127.0.0.1:1/0"
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; does not wait."""
        kafka = self.kafka
        command = [sys.executable, "-m", "streams.worker", kafka.bootstrap, self._redis, kafka.namespace]
        command += [str(kafka.partitions), str(self.folder / self.name), self.name, str(self._settings)]
        self._out = self.folder / f"{self.name}.out"
        with self.log.open("ab") as errors, self._out.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, cwd=HERE)

    def ready(self, timeout_s: float = 60) -> dict[str, Any]:
        """Wait for the line that says that it is ready.

        Raises:
            UnavailableError: the process ended or took too long.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            text = self._out.read_text()
            if text.endswith("\n"):
                line: dict[str, Any] = json.loads(text.splitlines()[-1])
                return line
            if not self.alive:
                break
            time.sleep(0.01)
        raise UnavailableError(
            f"worker {self.name} is not ready; the end of {self.log}: {self.log.read_text()[-2000:]}"
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is frozen)."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """End it in order; answers its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def wait(self, timeout_s: float = 30) -> int:
        """Wait until it has ended."""
        return self.process.wait(timeout_s) if self.process is not None else 0

    def joins(self) -> int:
        """How often it was given partitions."""
        return self.log.read_text().count('"message":"partitions assigned"') if self.log.exists() else 0

    def memory(self) -> int:
        """Its resident memory, bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """The processor time it used, seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ledger(self, port: int) -> dict[str, Any]:
        """Ask for its ledger."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ledger", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
