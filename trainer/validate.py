"""Progressive validation: each impression's first score waits for its final label, and is counted once.

A score is taken at the impression's first emission, before that is learned. A revision turns the label of what waits. When the
watermark of its partition has passed the slate's settle time the rows count, for the model and for the baseline alike.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from feedback.events import REVISION, Sample
from trainer.baseline import Baseline, fingerprint
from trainer.groups import ValidationSettings
from trainer.metrics import Metrics
from trainer.settled import ROW, SettledFile

Array = NDArray[Any]

_FOLD_ROWS = 8_192


class Slate(Struct, array_like=True):
    """A slate whose labels are not final yet. One entry per impression, in the order of first emission."""

    request_id: str
    settle_time: int
    event_time: int
    user: int
    """Fingerprint."""
    policy: str
    known: bool
    step: int
    """The training step that first learned from it."""
    items: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    """Seconds that the item had been known."""


@dataclass(frozen=True)
class Settled:
    """Slates that settled together, in order, as columns."""

    slates: list[Slate]
    starts: Array
    """Where each slate's rows begin, int64."""
    rows: Array
    """Dtype `trainer.settled.ROW`."""


class Validation:
    """Holds first scores until their labels settle."""

    def __init__(self, settings: ValidationSettings, file: SettledFile | None) -> None:
        self._settings, self._file = settings, file
        self.metrics = Metrics(window_s=settings.window_s)
        self.baseline = Baseline(settings)
        self.unmatched = 0
        """Revisions of impressions that do not wait: settled already, or not in the share that is validated."""
        self.watermarks: dict[int, int] = {}
        """Watermark of each partition, µs."""
        self._open: dict[int, dict[str, Slate]] = {}
        self._due: dict[int, list[tuple[int, str]]] = {}
        self._users: tuple[set[int], set[int]] = (set(), set())
        self._unfolded: list[Settled] = []
        self._unfolded_rows = 0

    @property
    def open_rows(self) -> int:
        """Impressions whose label is not final."""
        return sum(len(slate.items) for slates in self._open.values() for slate in slates.values())

    @property
    def watermark(self) -> int:
        """Event time up to which all partitions' labels are complete, µs; 0 before every partition said so."""
        return min(self.watermarks.values(), default=0)

    def observe(self, partition: int, sample: Sample, scores: Sequence[float], step: int) -> None:
        """Take a sample with the scores it had before it was learned (one per example)."""
        if not self._chosen(sample.request_id):
            return
        slates = self._open.setdefault(partition, {})
        slate = slates.get(sample.request_id)
        firsts = [at for at, emission in enumerate(sample.emissions) if emission != REVISION]
        if slate is None and firsts:
            slate = slates[sample.request_id] = self._begun(sample, step)
            heapq.heappush(self._due.setdefault(partition, []), (sample.settle_time, sample.request_id))
        if firsts and slate is not None:
            self._first(slate, sample, scores, firsts)
        if len(firsts) < len(sample.emissions):
            self._revise(slate, sample)

    def settle(self, partition: int, watermark: int) -> Settled | None:
        """Count what the partition's watermark has passed; None where that is nothing."""
        self.watermarks[partition] = max(watermark, self.watermarks.get(partition, 0))
        due, slates = self._due.get(partition), self._open.get(partition)
        if not due or slates is None or due[0][0] > watermark:
            return None
        done = []
        while due and due[0][0] <= watermark:
            done.append(slates.pop(heapq.heappop(due)[1]))
        settled = self._columns(done)
        self._unfolded.append(settled)
        self._unfolded_rows += len(settled.rows)
        if self._unfolded_rows >= _FOLD_ROWS:
            self.fold()
        return settled

    def fold(self) -> None:
        """Bring metrics and file up to date with what settled."""
        if not self._unfolded:
            return
        rows = np.concatenate([settled.rows for settled in self._unfolded])
        slates = [slate for settled in self._unfolded for slate in settled.slates]
        policies = [slate.policy for slate in slates for _ in slate.items]
        ages = np.array([age for slate in slates for age in slate.ages], np.int64)
        self.metrics.add(rows, policies, ages)
        if self._file is not None:
            self._file.append(rows)
        self._unfolded, self._unfolded_rows = [], 0

    def unfolded(self) -> list[Array]:
        """Rows that settled since the last fold, in order."""
        return [settled.rows for settled in self._unfolded]

    def forget_open(self) -> None:
        """Drop what waits: its labels will not come, because samples are skipped."""
        self._open.clear()
        self._due.clear()

    def state(self) -> dict[str, Any]:
        """Everything, as plain values; folds first."""
        self.fold()
        return {
            "open": {str(p): list(slates.values()) for p, slates in self._open.items()},
            "watermarks": {str(p): w for p, w in self.watermarks.items()},
            "metrics": self.metrics.state(),
            "baseline": self.baseline.state(),
            "users": [np.fromiter(s, np.uint64, len(s)).tobytes() for s in self._users],
            "unmatched": self.unmatched,
            "rows": self._file.rows if self._file is not None else 0,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered, read back from MessagePack; cuts the file to the length it had."""
        import msgspec

        self._open, self._due = {}, {}
        for name, raw in state["open"].items():
            slates = msgspec.convert(raw, list[Slate])
            self._open[int(name)] = {slate.request_id: slate for slate in slates}
            self._due[int(name)] = sorted((slate.settle_time, slate.request_id) for slate in slates)
        self.watermarks = {int(p): w for p, w in state["watermarks"].items()}
        self.metrics.restore(state["metrics"])
        self.baseline.restore(state["baseline"])
        old, new = (set(np.frombuffer(raw, np.uint64).tolist()) for raw in state["users"])
        self._users = (old, new)
        self.unmatched = state["unmatched"]
        self._unfolded, self._unfolded_rows = [], 0
        if self._file is not None:
            self._file.cut(state["rows"])

    def _chosen(self, request_id: str) -> bool:
        share = self._settings.share
        return share >= 1 or zlib.crc32(request_id.encode()) < share * 2**32

    def _begun(self, sample: Sample, step: int) -> Slate:
        user = fingerprint(sample.user_id)
        return Slate(
            request_id=sample.request_id,
            settle_time=sample.settle_time,
            event_time=sample.event_time,
            user=user,
            policy=sample.policy,
            known=self._meet(user),
            step=step,
        )

    def _meet(self, user: int) -> bool:
        """Whether the reader had been seen; from now on they are known. Two generations bound the memory."""
        old, new = self._users
        known = user in new or user in old
        new.add(user)
        if len(new) > self._settings.users:
            self._users = (new, set())
        return known

    def _first(self, slate: Slate, sample: Sample, scores: Sequence[float], firsts: list[int]) -> None:
        if slate.items:
            firsts = [at for at in firsts if sample.items[at] not in slate.items]
        items = [sample.items[at] for at in firsts]
        baseline, ages = self.baseline.sight(items, sample.event_time)
        slate.items += items
        slate.positions += [sample.positions[at] for at in firsts]
        slate.labels += [1 if sample.emissions[at] else 0 for at in firsts]
        slate.scores += [scores[at] for at in firsts]
        slate.served += [sample.scores[at] for at in firsts] if _served(sample) else [float("nan")] * len(firsts)
        slate.baseline += baseline
        slate.ages += ages

    def _revise(self, slate: Slate | None, sample: Sample) -> None:
        for emission, item in zip(sample.emissions, sample.items, strict=True):
            if emission == REVISION:
                if slate is not None and item in slate.items:
                    slate.labels[slate.items.index(item)] = 1
                else:
                    self.unmatched += 1

    def _columns(self, slates: list[Slate]) -> Settled:
        sizes = np.array([len(slate.items) for slate in slates], np.int64)
        rows = np.empty(int(sizes.sum()), ROW)
        rows["time"] = np.repeat([slate.event_time for slate in slates], sizes)
        rows["user"] = np.repeat(np.array([slate.user for slate in slates], np.uint64), sizes)
        rows["known"] = np.repeat([slate.known for slate in slates], sizes)
        prints = [self.baseline.learn(slate.items, slate.labels, slate.event_time) for slate in slates]
        rows["item"] = np.array([each for some in prints for each in some], np.uint64)
        for name, column in (("position", "positions"), ("label", "labels"), ("score", "scores")):
            rows[name] = [value for slate in slates for value in getattr(slate, column)]
        for name in ("served", "baseline"):
            rows[name] = [value for slate in slates for value in getattr(slate, name)]
        return Settled(slates, np.concatenate([[0], np.cumsum(sizes)[:-1]]), rows)


def _served(sample: Sample) -> bool:
    """Whether the scores in the prediction event are a model's."""
    return len(sample.scores) == len(sample.items) and not sample.fallback
