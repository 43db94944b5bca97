"""Where a step ends: pure. Records wait here, per partition, until they make a step; a step that was recorded is taken again.

Live, records are merged by the broker's timestamp, so that no partition runs ahead of another while a backlog is learned.
Inside a step the order is (partition, offset), which the recorded offsets alone determine: a continued or replayed run takes
the same records in the same order. Steps end on sample boundaries. A step may hold progress records only (0 examples): they
settle labels, and are recorded as well.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from feedback.deltas import Step
from feedback.errors import CorruptError
from feedback.events import Progress, Sample
from trainer.groups import StepSettings


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the samples topic."""

    partition: int
    offset: int
    timestamp: int
    """When the broker appended it, µs."""
    event: Sample | Progress

    @property
    def examples(self) -> int:
        """Examples in it."""
        return len(self.event.emissions) if isinstance(self.event, Sample) else 0


@dataclass(frozen=True, slots=True)
class Take:
    """What one step takes in."""

    records: tuple[Record, ...]
    """In canonical order: by partition, then offset."""
    offsets: dict[int, int]
    """Next offset of each partition that it touched."""
    examples: int
    """Examples in it."""


class Steps:
    """Chooses which waiting records make the next step. Time (`now`, s) is an argument."""

    def __init__(self, settings: StepSettings, offsets: Mapping[int, int]) -> None:
        self._settings = settings
        self.offsets = dict(offsets)
        """Next offset of each partition: what was taken so far."""
        self.waiting = 0
        """Examples that wait."""
        self._queues: dict[int, deque[Record]] = {}
        self._records = 0
        self._since = 0.0
        """When the first waiting record came, while any waits."""
        self._sample_since: float | None = None

    def offer(self, record: Record, now: float) -> None:
        """Add a record behind those of its partition; one that was taken already is ignored."""
        if record.offset < self.offsets.get(record.partition, 0):
            return
        if not self._records:
            self._since = now
        self._records += 1
        examples = record.examples
        if examples:
            self.waiting += examples
            if self._sample_since is None:
                self._sample_since = now
        self._queues.setdefault(record.partition, deque()).append(record)

    def due_in(self, now: float) -> float:
        """Seconds until the next step is due: 0 or less when it is, infinite when nothing waits."""
        if self.waiting >= self._settings.examples:
            return 0.0
        if self._sample_since is not None:
            return self._sample_since + self._settings.wait_s - now
        return self._since + self._settings.idle_s - now if self._records else float("inf")

    def take(self, now: float) -> Take:
        """Take what waits, in the order of its timestamps, as far as one step allows."""
        heads = [(queue[0].timestamp, partition) for partition, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        taken: list[Record] = []
        examples = 0
        while heads:
            _, partition = heapq.heappop(heads)
            queue = self._queues[partition]
            more = queue[0].examples
            # A full step still takes the progress behind its samples: labels settle no later than they must.
            if more and examples and examples + more > self._settings.examples:
                continue
            taken.append(queue.popleft())
            examples += more
            if queue:
                heapq.heappush(heads, (queue[0].timestamp, partition))
        return self._taken(taken, examples, now)

    def retake(self, step: Step, now: float) -> Take | None:
        """Take exactly the records of a recorded step; None while they are not all here.

        Raises:
            CorruptError: the records here are not those that the step took.
        """
        for partition, end in step.offsets.items():
            queue = self._queues.get(partition)
            if self.offsets.get(partition, 0) < end and (not queue or queue[-1].offset < end - 1):
                return None
        taken: list[Record] = []
        for partition, end in step.offsets.items():
            queue = self._queues.get(partition, deque())
            while queue and queue[0].offset < end:
                taken.append(queue.popleft())
        take = self._taken(taken, sum(record.examples for record in taken), now)
        if take.offsets != step.offsets or take.examples != step.examples:
            raise CorruptError(
                f"step {step.step}: recorded {step.examples} examples up to {step.offsets}, "
                f"found {take.examples} up to {take.offsets}"
            )
        return take

    def _taken(self, taken: list[Record], examples: int, now: float) -> Take:
        taken.sort(key=lambda record: (record.partition, record.offset))
        offsets = {record.partition: record.offset + 1 for record in taken}
        self.offsets.update(offsets)
        self.waiting -= examples
        self._records -= len(taken)
        self._since = now
        self._sample_since = now if self.waiting else None
        return Take(tuple(taken), offsets, examples)
