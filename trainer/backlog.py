"""How fast a trainer learns what waits in Kafka, and how soon it goes on after a kill. The trainer that is killed is a process.

Samples are made up as in `trainer.bench` and written as the join writes them: in transactions, with progress behind. The model
begins with a row for every value, from a checkpoint. `python -m trainer.backlog` is that process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feedback.errors import UnavailableError
from feedback.events import Sample
from feedback.settings import KafkaSettings
from feedback.topics import create_topics
from trainer import bench
from trainer.bootstrap import write_version
from trainer.checkpoint import Checkpoints
from trainer.gate import Gate
from trainer.groups import GateSettings, StepSettings
from trainer.interpreter import prepare
from trainer.learner import Learner
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.settings import ModelSettings, SlotSettings, TrainerSettings
from trainer.stand import Deltas, read_at, written
from trainer.train import Trainer
from trainer.validate import Validation

Rows = list[tuple[str, str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    values: int = 1_000_000
    """Values that have a row before the clock starts."""
    slates: int = 15_000
    """Slates that wait."""
    warm: int = 60_000
    """Examples learned before the clock starts."""
    rate: float = 50.0
    """Slates a second while the trainer is killed."""
    after_s: float = 15.0
    """How long the trainer runs before the kill: half the interval of its checkpoints, so the mean of what is to be taken again."""


SETTINGS = TrainerSettings(
    model=ModelSettings(slots=SlotSettings(capacity=1 << 20)),
    steps=StepSettings(examples=bench.STEP),
    # Labels by lot: a gate would find that the model knows nothing.
    gate=GateSettings(enabled=False),
)


def run(bootstrap: str, runs: int, *, size: Size = Size(), say: Callable[[str], None] = lambda _: None) -> Rows:
    """`kafka_samples_per_s` and `recovery_s`, with every run's value."""
    with tempfile.TemporaryDirectory(prefix="everloop-backlog-") as folder:
        first = Path(folder) / "first"
        say(f"a model with {size.values:,} rows")
        _begin(first, size)
        rates, recovered = [], []
        for number in range(runs):
            say(f"backlog, run {number + 1}")
            data = Path(folder) / str(number)
            shutil.copytree(first, data)
            rates.append(_rate(_topics(bootstrap), data, number, size))
            shutil.rmtree(data)
            say(f"kill, run {number + 1}")
            shutil.copytree(first, data)
            recovered.append(_recovery(_topics(bootstrap), data, number, size))
            shutil.rmtree(data)
    return [("kafka_samples_per_s", "1/s", rates), ("recovery_s", "s", recovered)]


def _topics(bootstrap: str) -> KafkaSettings:
    kafka = KafkaSettings(bootstrap=bootstrap, namespace=f"bench{uuid.uuid4().hex[:8]}-")
    create_topics(kafka)
    return kafka


def _begin(data: Path, size: Size) -> None:
    """A checkpoint and a version of a model that has a row for every value."""
    spec = bench.spec()
    line = line_of(spec, SETTINGS.model)
    places = Places(data, SETTINGS.model.name, line)
    loop = Loop(
        spec,
        bench.filled(size.values, SETTINGS.model, line=line),
        Validation(SETTINGS.validation, None),
        Gate(SETTINGS.gate),
        line=line,
        checksum_every=SETTINGS.deltas.checksum_every,
        warmup_rows=0,
    )
    write_version(loop, SETTINGS, spec.features, places, Checkpoints(places.checkpoints))
    loop.learner.close()


def _rate(kafka: KafkaSettings, data: Path, seed: int, size: Size) -> float:
    """Examples a second from the topic to updated weights that have left as deltas, validation and metrics included."""
    with written(kafka) as write:
        made = bench.samples(np.random.default_rng(seed), size.slates, size.values // bench.FEATURES)
        for at in range(0, size.slates, 500):
            write(made[at : at + 500])
    trainer = Trainer(kafka=kafka, features=bench.spec().features, settings=SETTINGS, data=data, make=Learner)
    trainer.start()
    prepare()
    try:
        _turn(trainer, size.warm)
        begun, before = time.perf_counter(), trainer.loop.examples
        _turn(trainer, size.slates * bench.SLATE)
        trainer.cut()
        trainer.deltas.flush()
        return (trainer.loop.examples - before) / (time.perf_counter() - begun)
    finally:
        trainer.close()
        trainer.loop.learner.close()


def _turn(trainer: Trainer, examples: int) -> None:
    give_up = time.monotonic() + 120.0
    while trainer.loop.examples < examples:
        if time.monotonic() > give_up:
            raise UnavailableError(f"the trainer learned {trainer.loop.examples} of {examples} examples in 120 s")
        trainer.turn()


def _recovery(kafka: KafkaSettings, data: Path, seed: int, size: Size) -> float:
    """From the start of a new process after a SIGKILL until it has published what the killed one had not."""
    with written(kafka) as write, read_at(size.rate, write, _endless(seed, size)), Deltas(kafka) as deltas:
        process = _process(kafka, data)
        try:
            deltas.wait_for(1)
            deltas.follow(size.after_s)
            process.kill()
            process.wait()
            reached = deltas.newest()
            begun = time.perf_counter()
            process = _process(kafka, data)
            deltas.wait_for(reached + 1)
            return time.perf_counter() - begun
        finally:
            process.kill()
            process.wait()


def _endless(seed: int, size: Size) -> Iterator[Sample]:
    random = np.random.default_rng(seed)
    while True:
        yield from bench.samples(random, 500, size.values // bench.FEATURES)


def _process(kafka: KafkaSettings, data: Path) -> subprocess.Popen[bytes]:
    told = {"bootstrap": kafka.bootstrap, "namespace": kafka.namespace, "data": str(data)}
    return subprocess.Popen([sys.executable, "-m", "trainer.backlog", json.dumps(told)], stdout=subprocess.DEVNULL)


def main(text: str) -> int:
    """Be the trainer that is killed; the JSON says bootstrap, namespace and data."""
    from trainer.main import run as forever

    told: dict[str, str] = json.loads(text)
    kafka = KafkaSettings(bootstrap=told["bootstrap"], namespace=told["namespace"])
    return forever(
        kafka=kafka, features=bench.spec().features, settings=SETTINGS, data=Path(told["data"]), make=Learner
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
