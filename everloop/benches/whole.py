"""The whole loop for a bench: every part as its own process in a temporary data folder, readers in another."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from everloop.demo import toml
from everloop.demo.observe import Observer
from everloop.loop import running
from everloop.runtime.supervise import Supervisor
from everloop.session import Session, open_session
from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings, Secret

FEATURES: Final = [{"name": "user", "source": "user"}, {"name": "item", "source": "item"}]
"""What the model of a bench sees."""
BASE: Final[dict[str, Any]] = {
    "features": FEATURES,
    "kafka.partitions": 4,
    "streams.join.window_s": 60.0,
    "streams.join.lateness_s": 5.0,
    "trainer.model.crosses": ["user*item"],
    # The readers' taste hardly shows in minutes: larger steps learn luck, and the gate refuses what predicts worse than item rates.
    "trainer.model.ftrl.alpha": 0.02,
    "trainer.model.adagrad.rate": 0.02,
    "trainer.model.adam.rate": 0.0002,
}
"""Settings of every whole-loop bench; the rest are the defaults that `everloop up` has."""


@dataclass(frozen=True)
class Whole:
    """A running loop."""

    session: Session
    supervisor: Supervisor
    observer: Observer
    kafka: KafkaSettings
    """With the broker's real address."""
    asking: list[subprocess.Popen[str]] = field(default_factory=list)
    """Processes of readers."""

    @property
    def redis(self) -> Secret:
        """The Redis server's URL."""
        return Secret(self.supervisor.addresses["redis"])

    def readers(self, *, rate: float, seconds: float, seed: int = 1, **who: float) -> dict[str, Any]:
        """Let readers come; answer what they counted. `who`: further options of `everloop.benches.readers`.

        Raises:
            UnavailableError: they failed.
        """
        addresses = self.supervisor.addresses
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "everloop.benches.readers", addresses["gateway"], addresses["kafka"]),
                *("--rate", str(rate), "--seconds", str(seconds), "--seed", str(seed)),
                *(f"--{name}={value}" for name, value in who.items()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.asking.append(process)
        with process:
            try:
                out, errors = process.communicate(timeout=seconds + 120)
            finally:
                process.kill()
        if process.returncode:
            raise UnavailableError(f"readers: {errors.strip()[-500:]}")
        counted: dict[str, Any] = json.loads(out)
        return counted


@contextmanager
def whole(
    settings: Mapping[str, Any], *, begin: Callable[[Session], None] | None = None, ready_s: float = 240.0
) -> Iterator[Whole]:
    """Start a loop with these settings (dotted keys) over BASE, wait until a version is live, and stop it afterwards.

    `begin` fills the data folder before anything starts.

    Raises:
        UnavailableError: a part can't be started.
    """
    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder:
        file = Path(folder) / "everloop.toml"
        file.write_text(toml.text(toml.tree({**BASE, **settings})), encoding="utf-8")
        session = open_session(Path(folder), file)
        if begin is not None:
            begin(session)
        with running(session) as supervisor:
            supervisor.wait_ready(timeout_s=ready_s)
            kafka = replace(session.loaded.config.kafka, bootstrap=supervisor.addresses["kafka"])
            observer = Observer(kafka)
            try:
                _wait_live(observer, ready_s)
                loop = Whole(session, supervisor, observer, kafka)
                try:
                    yield loop
                finally:
                    # Some are waited for by another thread: a bench that is ended must not leave them asking nobody.
                    for process in loop.asking:
                        process.kill()
            finally:
                observer.close()


def _wait_live(observer: Observer, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not observer.live():
        if time.monotonic() > deadline:
            raise UnavailableError(f"no version is live after {timeout_s:g} s")
        time.sleep(0.1)
