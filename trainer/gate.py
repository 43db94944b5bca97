"""The gate between the trainer and the readers: pure. It is shown everything before it leaves, and says what must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.events import Sample
from trainer.groups import GateSettings
from trainer.validate import Settled

Array = NDArray[Any]


@dataclass(frozen=True)
class Alarm:
    """Something is wrong: which check, by how much, and since which training step."""

    check: str
    value: float
    limit: float
    since_step: int
    """The first step that is suspect: what is older is good."""
    subject: str = ""
    """Whom or what it is about, where it is about somebody."""

    @property
    def reason(self) -> str:
        """The sentence that goes into the models event."""
        about = f" of {self.subject}" if self.subject else ""
        return f"{self.check}{about} = {self.value:.6g}: allowed up to {self.limit:.6g}; suspect since step {self.since_step}"


class Gate:
    """All checks of one line. The first alarm stands until the gate is restored."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self.slates = 0
        """Settled slates looked at."""

    def step(self, samples: Sequence[Sample], scores: Array, step: int) -> Alarm | None:
        """Look at a step: the samples it learned from and the scores they had before."""
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        if bad:
            return Alarm("non_finite_scores", bad, 0, step)
        return None

    def settled(self, settled: Settled) -> Alarm | None:
        """Look at slates whose labels became final."""
        self.slates += len(settled.slates)
        return None

    def clear_since(self, slates: int) -> bool:
        """Whether enough slates settled, without suspicion, since `slates` of them had."""
        return True

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {"slates": self.slates}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered."""
        self.slates = state["slates"]
