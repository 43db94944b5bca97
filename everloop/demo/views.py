"""How things stand, put together from what the replayer, Kafka and the trainer's rows say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.demo.freshness import Learned, Served, freshness_s
from everloop.demo.observe import Observer
from everloop.demo.progress import now
from everloop.demo.screen import Stage, View
from everloop.replay.tally import Tally
from everloop.runtime.supervise import Supervisor

_RECENT = 2_000
"""Answers that the freshness on the screen is taken of."""
_ROWS_S = 2.0
"""How often the settled rows are read again, s."""


class Looks:
    """Makes the view of a moment."""

    def __init__(
        self,
        tally: Tally,
        observer: Observer,
        read: Callable[[], NDArray[Any]],
        supervisor: Supervisor,
        *,
        total: int,
    ) -> None:
        self._tally, self._observer, self._read, self._supervisor = tally, observer, read, supervisor
        self._total = total
        self._rows: NDArray[Any] | None = None
        self._read_s = 0.0
        self._areas = ("none yet", "none yet")
        self._versions: set[int] = set()
        self._counted = 0

    def rows(self) -> NDArray[Any]:
        """The settled rows, read again now and then."""
        if self._rows is None or time.monotonic() - self._read_s > _ROWS_S:
            rows = self._rows = self._read()
            if len(rows):
                self._areas = f"{now(rows, 'score'):.4f}", f"{now(rows, 'baseline'):.4f}"
            self._read_s = time.monotonic()
        return self._rows

    def _swaps(self) -> int:
        """Versions that have answered so far, but the first."""
        served, begin = self._observer.served, self._counted
        self._counted = len(served)
        self._versions |= {each.version for each in served[begin : self._counted] if each.version}
        return max(0, len(self._versions) - 1)

    def view(self) -> View:
        """How things stand now."""
        tally, observer, ledger = self._tally, self._observer, self._observer.ledger()
        self.rows()
        stages = [
            Stage("asked", tally.requests, f"of {self._total:,} slates"),
            Stage("told", tally.outcomes, "outcomes"),
            Stage("joined", ledger.negatives + ledger.positives + ledger.revisions, "examples"),
            Stage("settled", ledger.settled_negative + ledger.settled_positive, "impressions"),
            Stage("learned", observer.examples, "examples in deltas"),
        ]
        served = observer.served[-_RECENT:]
        fresh = freshness_s(_since(observer.learned, served), served)
        facts = [
            ("version", str(served[-1].version) if served else "none"),
            ("swaps", str(self._swaps())),
            ("freshness", f"{np.median(fresh):.2f} s" if len(fresh) else "none yet"),
            ("AUC", self._areas[0]),
            ("baseline", self._areas[1]),
            ("residual", f"{observer.residual()} and {observer.sample_residual()}"),
            ("failed", f"{tally.failed_requests} requests"),
            ("restarts", str(sum(each.restarts for each in self._supervisor.runners.values()))),
        ]
        return View(stages, facts)


def _since(learned: Learned, served: list[Served]) -> Learned:
    """The outcomes that were sent since the first of some answers."""
    if not served:
        return Learned()
    begin, sent = served[0].sent_time, learned.sent_times
    at = len(sent)
    # Deltas come in the order of their steps: those that name older outcomes only lie before.
    while at and at > len(sent) - _RECENT and sent[at - 1] >= begin:
        at -= 1
    return Learned(learned.epochs[at:], learned.sequences[at:], sent[at:])
