"""Batching: requests that come at one time run in one run.

A request waits for a batch of its signature to fill, for the batch's time to run out, or only for a free thread, as
batches.py's settings say. It stands before a bundle as the thing that runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from serving.model_server.batches import BatchSettings, batch_size, merge, rounded, split
from serving.model_server.bundle import Runner
from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.metrics import Metrics
from serving.model_server.tensors import Array

_Key = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass
class _Task:
    arrays: Sequence[Array]
    size: int
    done: Future[list[Array]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


@dataclass
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0

    def add(self, task: _Task) -> None:
        self.tasks.append(task)
        self.size += task.size


class Batcher:
    """Runs requests together."""

    def __init__(self, runner: Runner, settings: BatchSettings, metrics: Metrics, *, name: str = "") -> None:
        self._runner, self._settings, self._metrics, self._name = runner, settings, metrics, name
        self._queues: dict[_Key, deque[_Batch]] = {}
        self._changed = threading.Condition()
        self._stopped = False
        for number in range(settings.batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def run(self, feeds: tuple[str, ...], arrays: Sequence[Array], fetches: tuple[str, ...]) -> list[Array]:
        """Run this request together with whatever else waits.

        Raises:
            ServingError: it cannot be batched, the queue is full, or the run fails.
        """
        size = batch_size(arrays)
        limit = self._settings.run_size
        if size <= limit:
            parts = [arrays]
        elif self._settings.split_large_batches:
            parts = [[array[start : start + limit] for array in arrays] for start in range(0, size, limit)]
        else:
            raise invalid(f"Task size {size} is larger than maximum input batch size {limit}")
        tasks = [_Task(part, int(part[0].shape[0])) for part in parts]
        self._enqueue((feeds, fetches), tasks)
        answers = [task.done.result() for task in tasks]
        return answers[0] if len(answers) == 1 else [np.concatenate(column) for column in zip(*answers, strict=True)]

    def stop(self) -> None:
        """End the threads; what waits is run first by nobody: call it when nothing waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _enqueue(self, key: _Key, tasks: Sequence[_Task]) -> None:
        with self._changed:
            queue = self._queues.setdefault(key, deque())
            free = self._settings.max_enqueued_batches - len(queue)
            opened = queue[-1] if queue else None
            needed = len(tasks) - (1 if opened and opened.size + tasks[0].size <= self._settings.run_size else 0)
            if needed > free:
                raise ServingError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(queue)} batches enqueued and max_enqueued_batches is {self._settings.max_enqueued_batches}",
                )
            for task in tasks:
                if not queue or queue[-1].size + task.size > self._settings.run_size:
                    queue.append(_Batch())
                queue[-1].add(task)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                found = self._take()
                while found is None:
                    if self._stopped:
                        return
                    self._changed.wait(self._patience())
                    found = self._take()
            self._execute(*found)

    def _take(self) -> tuple[_Key, _Batch] | None:
        """The first batch that may run; its queue goes to the end of the line, so that each has its turn."""
        now = time.monotonic()
        for key, queue in list(self._queues.items()):
            if queue and self._is_due(queue, now):
                batch = queue.popleft()
                del self._queues[key]
                if queue:
                    self._queues[key] = queue
                return key, batch
        return None

    def _is_due(self, queue: deque[_Batch], now: float) -> bool:
        full = len(queue) > 1 or queue[0].size >= self._settings.run_size
        return full or now - queue[0].tasks[0].since >= self._settings.batch_timeout_s

    def _patience(self) -> float | None:
        """Seconds until the first batch that waits is due; None where none waits."""
        opened = [queue[0].tasks[0].since for queue in self._queues.values() if queue]
        if not opened:
            return None
        return max(0.0, min(opened) + self._settings.batch_timeout_s - time.monotonic())

    def _execute(self, key: _Key, batch: _Batch) -> None:
        try:
            answers = self._answers(key, batch)
        except ServingError as error:
            for task in batch.tasks:
                task.done.set_exception(error)
            return
        except Exception as error:  # noqa: BLE001 - the outermost loop of this thread: nobody else answers the tasks
            for task in batch.tasks:
                task.done.set_exception(ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
            return
        for task, answer in zip(batch.tasks, answers, strict=True):
            task.done.set_result(answer)

    def _answers(self, key: _Key, batch: _Batch) -> list[list[Array]]:
        feeds, fetches = key
        rows = rounded(batch.size, self._settings.allowed_batch_sizes)
        self._count(batch, rows)
        inputs = merge(
            feeds, [task.arrays for task in batch.tasks], rows=rows, pad=self._settings.pad_variable_length_inputs
        )
        return split(self._runner.run(feeds, inputs, fetches), [task.size for task in batch.tasks], rows=rows)

    def _count(self, batch: _Batch, rows: int) -> None:
        now, metrics = time.monotonic(), self._metrics
        metrics.wrapped_runs.add()
        metrics.processed_batch_size.observe(rows, self._name)
        metrics.padding_size.observe(rows - batch.size, str(rows), self._name)
        for task in batch.tasks:
            metrics.queuing_latency.observe((now - task.since) * 1e6, self._name)
            metrics.input_batch_size.observe(task.size, self._name)
