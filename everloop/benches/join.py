"""`everloop bench join`: the join on a Kafka of its own: throughput, latency, memory, recovery, gaps."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from everloop.benches import Options, figures
from everloop.figures import Report, report
from everloop.runtime.kafka import KafkaNode
from everloop.runtime.settings import KafkaNodeSettings


def run(options: Options) -> Report:
    """Measure the join."""
    from streams.bench import bench

    settings = KafkaNodeSettings(heap_mib=1024)
    with (
        tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder,
        KafkaNode(Path(folder), settings=settings) as node,
    ):
        return report("join", figures(bench(node.bootstrap, runs=options.runs, say=_say)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
