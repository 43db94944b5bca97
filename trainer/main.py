"""The trainer as a process: runs one line until it is told to end."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType

from feedback.errors import EverloopError, FencedError
from feedback.features import Feature
from feedback.settings import KafkaSettings
from trainer.contract import Makes
from trainer.interpreter import prepare
from trainer.observe import StatusServer, log
from trainer.settings import TrainerSettings
from trainer.train import Trainer


def run(
    *,
    kafka: KafkaSettings,
    features: tuple[Feature, ...],
    settings: TrainerSettings,
    data: Path,
    http_port: int = 0,
    http_host: str = "127.0.0.1",
    make: Makes | None = None,
) -> int:
    """Learn from the samples topic until SIGTERM or SIGINT; answers the exit status.

    0: told to end, everything saved. 1: a part it needs is gone; start it again. 3: another trainer of the line has begun.
    `make` is the learner's class; by default TensorFlow's.
    """
    stop = threading.Event()

    def asked(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, asked)
    trainer = Trainer(kafka=kafka, features=features, settings=settings, data=data, make=make or _tensorflow())
    server = None
    try:
        trainer.start()
        prepare()
        server = StatusServer(trainer.show.registry, lambda: trainer.shown, port=http_port, host=http_host)
        print(
            json.dumps({"event": "ready", "part": "trainer", "http_port": server.port, "line": trainer.line}),
            flush=True,
        )
        while not stop.is_set():
            trainer.turn()
        trainer.stop()
        return 0
    except FencedError as error:
        log("fenced", level="error", reason=str(error))
        trainer.close()
        return 3
    except EverloopError as error:
        log("ended", level="error", reason=str(error), retriable=error.retriable)
        trainer.close()
        return 1
    finally:
        if server is not None:
            server.close()


def _tensorflow() -> Makes:
    from trainer.learner import Learner

    return Learner
