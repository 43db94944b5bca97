"""A data folder, a join that writes to its topics, and trainers that end with the test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from feedback.settings import KafkaSettings
from tests.trainer.loop.world import FEATURES, Join
from trainer.consume import end_offsets
from trainer.contract import Makes
from trainer.fake import FakeLearner
from trainer.publish import Published, read_published
from trainer.settings import TrainerSettings
from trainer.train import Trainer

QUICK: dict[str, Any] = {
    "steps": {"examples": 60, "wait_s": 0.01},
    "deltas": {"every_s": 0.0, "checksum_every": 5},
    "checkpoints": {"every_s": 1000.0},
    "versions": {"every_s": 1000.0},
}
"""Every step is a delta, at once; checkpoints and versions when the test says so."""


class World:
    """One line's topics and data folder, and the trainers on them."""

    def __init__(self, kafka: KafkaSettings, data: Path) -> None:
        self.kafka, self.data = kafka, data
        self.join = Join(kafka)
        self._trainers: list[Trainer] = []
        self._processes: list[subprocess.Popen[str]] = []

    def settings(self, **changes: dict[str, Any]) -> TrainerSettings:
        """QUICK with some groups changed."""
        merged = {name: QUICK.get(name, {}) | changes.get(name, {}) for name in {*QUICK, *changes}}
        return msgspec.convert(merged, TrainerSettings)

    def trainer(self, *, make: Makes = FakeLearner, **changes: dict[str, Any]) -> Trainer:
        """A started trainer."""
        trainer = Trainer(
            kafka=self.kafka, features=FEATURES, settings=self.settings(**changes), data=self.data, make=make
        )
        self._trainers.append(trainer)
        trainer.start()
        return trainer

    def process(self, *, tensorflow: bool = False, **changes: dict[str, Any]) -> subprocess.Popen[str]:
        """A trainer as a process of its own, ready."""
        told = {
            "bootstrap": self.kafka.bootstrap,
            "namespace": self.kafka.namespace,
            "partitions": self.kafka.partitions,
            "data": str(self.data),
            "settings": {name: QUICK.get(name, {}) | changes.get(name, {}) for name in {*QUICK, *changes}},
            "tensorflow": tensorflow,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.loop.process", json.dumps(told)], stdout=subprocess.PIPE, text=True
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        return process

    def published(self, line: str) -> list[Published]:
        """The line's deltas so far, without the checksums."""
        return [each for each in read_published(self.kafka, line=line) if each.header.kind == "rows"]

    def forget(self, trainer: Trainer) -> None:
        """End a trainer as a kill would: nothing of its memory is saved."""
        self._trainers.remove(trainer)
        trainer.close()
        trainer.loop.learner.close()

    def close(self) -> None:
        """End everything."""
        for trainer in list(self._trainers):
            self.forget(trainer)
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.join.close()


def turn_until(trainer: Trainer, done: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Let a trainer turn until something is so."""
    give_up = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < give_up, f"not reached: {trainer.where()}, {trainer.status()}"
        trainer.turn()


def taken(trainer: Trainer, count: int) -> Callable[[], bool]:
    """Whether so many examples were learned in this process, and the delta has left."""
    return lambda: trainer.loop.examples >= count and not trainer.loop.learned


def caught_up(trainer: Trainer) -> Callable[[], bool]:
    """Whether all that stands in the samples topic now was taken, and the last delta has left."""
    # Behind the last record of a partition stands the mark of its transaction's end.
    ends = {partition: max(0, end - 1) for partition, end in end_offsets(trainer.kafka).items()}
    return lambda: (
        all(trainer.steps.offsets.get(partition, 0) >= end for partition, end in ends.items())
        and not trainer.loop.learned
    )
