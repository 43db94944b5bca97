"""Progressive validation: each impression's first score waits for its final label, and is counted once.

A score, the baseline's too, is taken at the impression's first emission, before that is learned. A revision turns the label of
what waits. When the watermark of its partition has passed the slate's settle time the rows count, for the model and for the
baseline alike. Inside a step all samples come before all progress.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from feedback.events import OBSERVED, REVISION, Sample
from trainer.baseline import Baseline, fingerprint
from trainer.batch import positions_of
from trainer.groups import ValidationSettings
from trainer.metrics import Metrics
from trainer.pool import OPEN, Pool, ranges
from trainer.settled import ROW, SettledFile

Array = NDArray[Any]

_FOLD_ROWS = 8_192


class Slate(Struct, array_like=True, gc=False):
    """A slate whose labels are not final yet."""

    request_id: str
    settle_time: int
    event_time: int
    user: int
    """Fingerprint."""
    policy: str
    """OBSERVED: something else chose it."""
    known: bool
    step: int
    """The training step that first learned from it."""
    items: list[str]
    """Its impressions, in the order of first emission."""
    spans: list[int]
    """Where their rows are in the pool: start, size, start, size …"""


@dataclass(frozen=True)
class Settled:
    """Slates that settled together, in order, as columns."""

    slates: list[Slate]
    starts: Array
    """Where each slate's rows begin, int64."""
    rows: Array
    """Dtype `trainer.settled.ROW`."""
    ages: Array
    """Seconds that each row's item had been known."""


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
        self._pool = Pool()
        self._open: dict[int, dict[str, Slate]] = {}
        self._due: dict[int, list[tuple[int, str]]] = {}
        self._users: tuple[set[int], set[int]] = (set(), set())
        self._unfolded: list[Settled] = []
        self._unfolded_rows = 0

    @property
    def open_rows(self) -> int:
        """Impressions whose label is not final."""
        return self._pool.live

    @property
    def watermark(self) -> int:
        """Event time up to which all partitions' labels are complete, µs; 0 before every partition said so."""
        return min(self.watermarks.values(), default=0)

    def observe(self, partitions: Sequence[int], samples: Sequence[Sample], scores: Array, step: int) -> None:
        """Take a step's samples, in order, each with its partition, and the scores they had before they were learned.

        `scores`: float32, one per example of the samples one after another.
        """
        if self._settings.share < 1:
            partitions, samples, scores = self._chosen(partitions, samples, scores)
        if not samples:
            return
        sizes = np.array([len(sample.emissions) for sample in samples])
        emissions = np.fromiter(chain.from_iterable(sample.emissions for sample in samples), np.int8, int(sizes.sum()))
        firsts = emissions != REVISION
        start = self._pool.append(self._rows(samples, sizes, emissions, firsts, scores))
        counts = np.add.reduceat(firsts, np.cumsum(sizes) - sizes, dtype=np.int64).tolist()
        for partition, sample, count in zip(partitions, samples, counts, strict=True):
            slate = self._open.setdefault(partition, {}).get(sample.request_id)
            if count:
                slate = self._first(slate, partition, sample, start, count, step)
                start += count
            if count < len(sample.emissions):
                self._revise(slate, sample)
        if self.baseline.crowded:
            self._forget_items()

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
        if self._pool.sparse:
            self._compact()
        return settled

    def fold(self) -> None:
        """Bring metrics and file up to date with what settled."""
        if not self._unfolded:
            return
        rows = np.concatenate([settled.rows for settled in self._unfolded])
        ages = np.concatenate([settled.ages for settled in self._unfolded])
        sizes = np.concatenate([np.diff(np.append(each.starts, len(each.rows))) for each in self._unfolded])
        policies = np.array([slate.policy for each in self._unfolded for slate in each.slates], dtype=object)
        self.metrics.add(rows, np.repeat(policies, sizes), ages)
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
        self._pool = Pool()

    def state(self) -> dict[str, Any]:
        """Everything, as plain values; folds first."""
        self.fold()
        self._compact()
        return {
            "open": {str(p): list(slates.values()) for p, slates in self._open.items()},
            "pool": self._pool.rows[: self._pool.used].tobytes(),
            "watermarks": {str(p): w for p, w in self.watermarks.items()},
            "metrics": self.metrics.state(),
            "baseline": self.baseline.state(),
            "users": [np.fromiter(s, np.uint64, len(s)).tobytes() for s in self._users],
            "unmatched": self.unmatched,
            "rows": self._file.rows if self._file is not None else 0,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered, read back from MessagePack; cuts the file to the length it had."""
        self._open, self._due, self._pool = {}, {}, Pool()
        for name, raw in state["open"].items():
            slates = msgspec.convert(raw, list[Slate])
            self._open[int(name)] = {slate.request_id: slate for slate in slates}
            self._due[int(name)] = sorted((slate.settle_time, slate.request_id) for slate in slates)
        self._pool.append(np.frombuffer(state["pool"], OPEN))
        self.watermarks = {int(p): w for p, w in state["watermarks"].items()}
        self.metrics.restore(state["metrics"])
        self.baseline.restore(state["baseline"])
        old, new = (set(np.frombuffer(raw, np.uint64).tolist()) for raw in state["users"])
        self._users = (old, new)
        self.unmatched = state["unmatched"]
        self._unfolded, self._unfolded_rows = [], 0
        if self._file is not None:
            self._file.cut(state["rows"])

    def _chosen(
        self, partitions: Sequence[int], samples: Sequence[Sample], scores: Array
    ) -> tuple[Sequence[int], Sequence[Sample], Array]:
        """Those of the share that is validated."""
        least = self._settings.share * 2**32
        mask = [zlib.crc32(sample.request_id.encode()) < least for sample in samples]
        rows = np.repeat(mask, [len(sample.emissions) for sample in samples])
        kept = [(p, sample) for p, sample, chosen in zip(partitions, samples, mask, strict=True) if chosen]
        return [p for p, _ in kept], [sample for _, sample in kept], scores[rows] if len(rows) else scores

    def _rows(self, samples: Sequence[Sample], sizes: Array, emissions: Array, firsts: Array, scores: Array) -> Array:
        """The first emissions of some samples, as rows that wait."""
        items = list(chain.from_iterable(sample.items for sample in samples))
        times = np.repeat(np.array([sample.event_time for sample in samples], np.int64), sizes)
        served = chain.from_iterable(
            sample.scores if _served(sample) else [np.nan] * len(sample.emissions) for sample in samples
        )
        if not firsts.all():
            items = [item for item, first in zip(items, firsts.tolist(), strict=True) if first]
        rows = np.empty(len(items), OPEN)
        rows["item"] = numbers = self.baseline.number(items, int(times.min()))
        rows["baseline"], rows["age"] = self.baseline.sight(numbers, times[firsts])
        rows["position"] = positions_of(samples)[firsts]
        rows["served"] = np.fromiter(served, np.float32, len(times))[firsts]
        rows["score"] = scores[firsts]
        rows["label"] = emissions[firsts] > 0
        return rows

    def _first(self, slate: Slate | None, partition: int, sample: Sample, start: int, count: int, step: int) -> Slate:
        """Note a sample's first emissions, whose rows are in the pool from `start` on."""
        items = sample.items
        if count < len(items):
            items = [item for item, e in zip(items, sample.emissions, strict=True) if e != REVISION]
        if slate is None:
            user = fingerprint(sample.user_id)
            known = self._meet(user)
            slate = Slate(
                sample.request_id, sample.settle_time, sample.event_time, user, sample.policy, known, step,
                items, [start, count],
            )  # fmt: skip
            self._open[partition][sample.request_id] = slate
            heapq.heappush(self._due.setdefault(partition, []), (sample.settle_time, sample.request_id))
            return slate
        for at, item in enumerate(items):
            if item in slate.items:
                self._pool.live -= 1
            else:
                slate.items = [*slate.items, item]
                slate.spans += [start + at, 1]
        return slate

    def _meet(self, user: int) -> bool:
        """Whether the reader had been seen; from now on they are known. Two generations bound the memory."""
        old, new = self._users
        known = user in new or user in old
        new.add(user)
        if len(new) > self._settings.users:
            self._users = (new, set())
        return known

    def _revise(self, slate: Slate | None, sample: Sample) -> None:
        for emission, item in zip(sample.emissions, sample.items, strict=True):
            if emission == REVISION:
                if slate is not None and item in slate.items:
                    self._pool.rows["label"][_row(slate, slate.items.index(item))] = True
                else:
                    self.unmatched += 1

    def _columns(self, slates: list[Slate]) -> Settled:
        spans = np.fromiter(chain.from_iterable(slate.spans for slate in slates), np.int64)
        waiting = self._pool.rows[ranges(spans[0::2], spans[1::2])]
        self._pool.live -= len(waiting)
        sizes = np.array([len(slate.items) for slate in slates], np.int64)
        rows = np.empty(len(waiting), ROW)
        rows["time"] = times = np.repeat(np.array([slate.event_time for slate in slates], np.int64), sizes)
        rows["user"] = np.repeat(np.array([slate.user for slate in slates], np.uint64), sizes)
        rows["known"] = np.repeat([slate.known for slate in slates], sizes)
        for name in ("position", "label", "score", "served", "baseline"):
            rows[name] = waiting[name]
        rows["item"] = self.baseline.learn(waiting["item"], waiting["label"], times)
        return Settled(slates, np.cumsum(sizes) - sizes, rows, waiting["age"])

    def _compact(self) -> None:
        """Move the rows that wait to the front of the pool."""
        slates = [slate for each in self._open.values() for slate in each.values()]
        old, self._pool = self._pool, Pool()
        if not slates:
            return
        spans = np.fromiter(chain.from_iterable(slate.spans for slate in slates), np.int64)
        self._pool.append(old.rows[ranges(spans[0::2], spans[1::2])])
        at = 0
        for slate in slates:
            slate.spans = [at, len(slate.items)]
            at += len(slate.items)

    def _forget_items(self) -> None:
        self._compact()
        used = self._pool.rows["item"][: self._pool.used]
        moved = self.baseline.forget(np.unique(used))
        used[:] = moved[used]


def _row(slate: Slate, at: int) -> int:
    """The pool's number of a slate's impression."""
    for start, size in zip(slate.spans[0::2], slate.spans[1::2], strict=True):
        if at < size:
            return start + at
        at -= size
    raise IndexError(at)


def _served(sample: Sample) -> bool:
    """Whether the scores in the prediction event are a model's."""
    known = len(sample.scores) == len(sample.items)
    return known and not sample.fallback and sample.policy != OBSERVED
