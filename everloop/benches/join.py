"""`everloop bench join`: the join on a Kafka of its own: throughput, latency, memory, recovery, gaps."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from everloop.benches import Options, figures
from everloop.figures import Peer, Report, report
from everloop.peers import environment
from everloop.runtime.kafka import KafkaNode
from everloop.runtime.settings import KafkaNodeSettings

PEER_SLATES = 60_000
"""Slates that a peer joins."""


def run(options: Options) -> Report:
    """Measure the join."""
    from streams.bench import bench

    settings = KafkaNodeSettings(heap_mib=1024)
    with (
        tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder,
        KafkaNode(Path(folder), settings=settings) as node,
    ):
        found = figures(bench(node.bootstrap, runs=options.runs, say=_say))
        rate = next(figure.value for figure in found if figure.name == "slates_per_s")
        return report("join", found, _peers(node.bootstrap, rate) if options.peers else ())


def _peers(bootstrap: str, ours: float) -> list[Peer]:
    """The same join in other systems, each with its strongest guarantee, on the same input and broker."""
    from streams.bench import filled

    found = []
    for script, topic in (("quix_join.py", "quix-samples"), ("bytewax_join.py", "bytewax-samples")):
        with (
            tempfile.TemporaryDirectory(prefix="everloop-peer-") as folder,
            filled(bootstrap, slates=PEER_SLATES, outputs=(topic,)) as kafka,
        ):
            result = environment.run("join", script, bootstrap, kafka.namespace, str(PEER_SLATES), folder)
        theirs = result["slates_per_s"]
        name = f"{result['name']} ({result['guarantee']})"
        found.append(
            Peer(
                name=name,
                version=result["version"],
                figure="slates_per_s",
                value=theirs,
                unit="1/s",
                ratio=ours / theirs,
            )
        )
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
