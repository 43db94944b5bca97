"""Counters and histograms under TensorFlow Serving's own names, as Prometheus text.

Not prometheus-client: it appends `_total` to counters and writes `# HELP`, and the official server's dashboards know
neither. Names and labels are the official ones, with every character outside [A-Za-z0-9_] turned into a colon.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from serving.model_server.faults import Code

_LATENCY_BOUNDS_US = tuple(10 * 1.8**power for power in range(33))
_COUNT_BOUNDS = tuple(float(2**power) for power in range(15))


@dataclass
class _Cell:
    """One labelled series of a histogram."""

    buckets: list[int]
    total: float = 0.0
    count: int = 0


@dataclass
class Counter:
    """A counter with labels."""

    name: str
    labels: tuple[str, ...]
    cells: dict[tuple[str, ...], int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *values: str, by: int = 1) -> None:
        """Increase the series of these label values."""
        with self.lock:
            self.cells[values] = self.cells.get(values, 0) + by

    def lines(self) -> Iterator[str]:
        """The series as Prometheus text."""
        yield f"# TYPE {_metric(self.name)} counter"
        with self.lock:
            cells = sorted(self.cells.items())
        for values, count in cells:
            yield f"{_metric(self.name)}{_labels(self.labels, values)} {count}"


@dataclass
class Histogram:
    """A histogram with labels."""

    name: str
    labels: tuple[str, ...]
    bounds: Sequence[float]
    cells: dict[tuple[str, ...], _Cell] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, value: float, *values: str) -> None:
        """Add an observation to the series of these label values."""
        with self.lock:
            cell = self.cells.get(values)
            if cell is None:
                cell = self.cells[values] = _Cell([0] * (len(self.bounds) + 1))
            cell.buckets[bisect_left(self.bounds, value)] += 1
            cell.total += value
            cell.count += 1

    def lines(self) -> Iterator[str]:
        """The series as Prometheus text, buckets cumulative."""
        name = _metric(self.name)
        yield f"# TYPE {name} histogram"
        with self.lock:
            cells = [
                (values, list(cell.buckets), cell.total, cell.count) for values, cell in sorted(self.cells.items())
            ]
        for values, buckets, total, count in cells:
            below = 0
            for bound, inside in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], buckets, strict=True):
                below += inside
                yield f"{name}_bucket{_labels((*self.labels, 'le'), (*values, bound))} {below}"
            yield f"{name}_sum{_labels(self.labels, values)} {total:g}"
            yield f"{name}_count{_labels(self.labels, values)} {count}"


class Metrics:
    """All series of one server."""

    def __init__(self) -> None:
        serving, saved_model = "/tensorflow/serving", "/tensorflow/cc/saved_model"
        batching = f"{serving}/batching_session"
        self.request_count = Counter(f"{serving}/request_count", ("model_name", "status"))
        self.request_latency = Histogram(
            f"{serving}/request_latency", ("model_name", "API", "entrypoint"), _LATENCY_BOUNDS_US
        )
        self.runtime_latency = Histogram(
            f"{serving}/runtime_latency", ("model_name", "API", "runtime"), _LATENCY_BOUNDS_US
        )
        self.example_counts = Histogram(f"{serving}/request_example_counts", ("model",), _COUNT_BOUNDS)
        self.example_count_total = Counter(f"{serving}/request_example_count_total", ("model",))
        self.warmup_latency = Histogram(f"{serving}/model_warmup_latency", ("model_path", "status"), _LATENCY_BOUNDS_US)
        self.warmup_records = Counter(f"{serving}/model_warmup_records_read", ("model_path",))
        self.load_attempts = Counter(f"{saved_model}/load_attempt_count", ("model_path", "status"))
        self.load_latency = Counter(f"{saved_model}/load_latency", ("model_path",))
        self.queuing_latency = Histogram(f"{batching}/queuing_latency", ("thread_pool_name",), _LATENCY_BOUNDS_US)
        self.wrapped_runs = Counter(f"{batching}/wrapped_run_count", ())
        self.input_batch_size = Histogram(f"{batching}/input_batch_size", ("thread_pool_name",), _COUNT_BOUNDS)
        self.processed_batch_size = Histogram(f"{batching}/processed_batch_size", ("thread_pool_name",), _COUNT_BOUNDS)
        self.padding_size = Histogram(
            f"{batching}/padding_size", ("execution_batch_size", "thread_pool_name"), _COUNT_BOUNDS
        )
        self._all: tuple[Counter | Histogram, ...] = tuple(vars(self).values())

    def count_request(self, model: str, code: Code) -> None:
        """One request ended with that code."""
        self.request_count.add(model, code.name)

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        return "\n".join(line for metric in self._all for line in metric.lines()) + "\n"

    def counter_value(self, name: str) -> int | None:
        """The first series of the counter of that (slash-separated) name; None where there is no such counter."""
        for metric in self._all:
            if isinstance(metric, Counter) and metric.name == name:
                return next(iter(metric.cells.values()), 0)
        return None


def _metric(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", ":", name)


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
