"""Trials of the gate: a clean log, then poison, and what readers would have been served meanwhile. For `make chaos`.

One trial trains on the clean part, goes on with poison until the gate refuses (or the poison ends), and returns to the newest
state without a suspect step, as the loop does. The served model is scored on the clean labels of the poisoned time, beside a run
that was never poisoned.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from feedback.events import Sample
from feedback.features import FeatureSpec
from trainer.batch import batch_of
from trainer.contract import Learns, Makes
from trainer.gate import Gate, RefusedError
from trainer.lesson import takes
from trainer.line import line_of
from trainer.loop import Loop
from trainer.settings import TrainerSettings
from trainer.tally import log_losses
from trainer.validate import Validation

Poison = Callable[[Sample, random.Random], list[Sample]]


def shuffled(sample: Sample, chance: random.Random) -> list[Sample]:
    """Labels in another order within the slate."""
    return [msgspec.structs.replace(sample, emissions=chance.sample(sample.emissions, len(sample.emissions)))]


def inverted(sample: Sample, chance: random.Random) -> list[Sample]:
    """What was clicked was not, and the other way round."""
    return [msgspec.structs.replace(sample, emissions=[0 if emission else 1 for emission in sample.emissions])]


def stalled(sample: Sample, chance: random.Random) -> list[Sample]:
    """No click arrives any more."""
    return [msgspec.structs.replace(sample, emissions=[0] * len(sample.emissions))]


def not_numbers(sample: Sample, chance: random.Random) -> list[Sample]:
    """Number features that are not numbers."""
    bad: dict[str, Any] = {
        name: [float("nan")] * len(column) if column and isinstance(column[0], float) else column
        for name, column in sample.features.items()
    }
    context: dict[str, Any] = {
        name: float("nan") if isinstance(value, float) else value for name, value in sample.context.items()
    }
    return [msgspec.structs.replace(sample, features=bad, context=context)]


def flooded(sample: Sample, chance: random.Random) -> list[Sample]:
    """One reader has half of all events, and clicks at random."""
    emissions = [int(chance.random() < 0.5) for _ in sample.emissions]
    again = msgspec.structs.replace(
        sample,
        request_id=f"{sample.request_id}+",
        sample_id=f"{sample.sample_id}+",
        user_id="flood",
        emissions=emissions,
    )
    return [sample, again]


POISONS: dict[str, Poison] = {
    "shuffled_labels": shuffled,
    "inverted_labels": inverted,
    "stalled_clicks": stalled,
    "nan_features": not_numbers,
    "flood": flooded,
}
"""Five kinds of poison, by name."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one trial came to."""

    poison: str
    seed: int
    check: str
    """The check that refused; empty: none did."""
    slates: int
    """Poisoned slates learned before the refusal (without one: all)."""
    good: bool
    """Whether the state that is live afterwards holds no poisoned step."""
    served_log_loss: float
    """Of what was served in the poisoned time, on clean labels."""
    clean_log_loss: float
    """The same of the run that was never poisoned."""

    @property
    def excess(self) -> float:
        """By how much the served log loss is above the clean run's, as a share."""
        return self.served_log_loss / self.clean_log_loss - 1.0

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"excess": self.excess}


class Trials:
    """Trials over one log: the clean part is learned once and saved."""

    def __init__(
        self,
        clean: Sequence[Sample],
        later: Sequence[Sample],
        *,
        spec: FeatureSpec,
        settings: TrainerSettings,
        make: Makes,
        checkpoint_steps: int = 10,
    ) -> None:
        self._later, self._spec, self._settings, self._make = later, spec, settings, make
        self._every = checkpoint_steps
        self._folder = tempfile.TemporaryDirectory(prefix="everloop-poison-")
        self._line = line_of(spec, settings.model)
        start = self._loop(make(spec, settings.model, line=self._line))
        self.false_alarms = 0
        for take in takes(clean, settings.steps.examples):
            self.false_alarms += start.step(take) is not None
            start.pending = []
        start.cut(0)
        start.learner.snapshot().save(self._path("start"))
        self._state = msgspec.msgpack.encode(start.state())
        start.learner.close()
        self.clean_log_loss, alarm = self._served(later, later)[:2]
        self.false_alarms += alarm is not None

    def run(self, name: str, seed: int) -> Trial:
        """Run one trial."""
        chance = random.Random(seed)
        poisoned = [each for sample in self._later for each in POISONS[name](sample, chance)]
        served, alarm, slates, good = self._served(poisoned, self._later)
        return Trial(
            poison=name,
            seed=seed,
            check=alarm or "",
            slates=slates,
            good=good,
            served_log_loss=served,
            clean_log_loss=self.clean_log_loss,
        )

    def close(self) -> None:
        """Remove the saved states."""
        self._folder.cleanup()

    def _served(self, taught: Sequence[Sample], asked: Sequence[Sample]) -> tuple[float, str | None, int, bool]:
        """Learn `taught` until refused, while `asked` is served at the same pace: log loss, check, slates learned, good again."""
        loop = self._loop(self._make.load(self._path("start")))
        loop.restore(msgspec.msgpack.decode(self._state))
        saved: list[tuple[int, Path]] = [(loop.learner.step, self._path("start"))]
        first = loop.learner.step
        losses: list[Any] = []
        check: str | None = None
        done, good = 0, True
        questions = self._questions(asked, len(list(takes(taught, self._settings.steps.examples))))
        for take, question in zip(takes(taught, self._settings.steps.examples), questions, strict=True):
            losses.append(self._loss(loop.learner, question))
            if check is not None:
                continue
            try:
                alarm = loop.step(take)
                loop.cut(0)
            except RefusedError as error:
                alarm = error.alarm
            done += len(take.records) - 1
            if alarm is not None:
                check = alarm.check
                step, place = max(each for each in saved if each[0] < alarm.since_step or each[0] == first)
                good = step <= first
                loop.learner.close()
                loop.learner = self._make.load(place)
            elif (loop.learner.step - first) % self._every == 0:
                saved.append((loop.learner.step, self._path(f"at{loop.learner.step}")))
                loop.learner.snapshot().save(saved[-1][1])
        loop.learner.close()
        return float(np.concatenate(losses).mean()), check, done, good

    def _questions(self, asked: Sequence[Sample], parts: int) -> Iterator[Sequence[Sample]]:
        for part in range(parts):
            yield asked[part * len(asked) // parts : (part + 1) * len(asked) // parts]

    def _loss(self, learner: Learns, samples: Sequence[Sample]) -> Any:
        if not samples:
            return np.empty(0)
        batch = batch_of(self._spec, samples)
        return log_losses(learner.score(batch), batch.emissions > 0)

    def _loop(self, learner: Learns) -> Loop:
        return Loop(
            self._spec,
            learner,
            Validation(self._settings.validation, None),
            Gate(self._settings.gate),
            line=self._line,
            checksum_every=1 << 60,
            warmup_rows=0,
        )

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name
