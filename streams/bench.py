"""Measure the join on a real broker: throughput, latency, memory, recovery, gaps. Every client is a process of its own.

What is returned goes to `everloop bench join`: name, unit and the value of each run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from feedback.codec import decode_output
from feedback.errors import DivergedError
from feedback.events import Ledger, Progress
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS, SAMPLES, TOPICS, create_topics
from streams.fleet import HERE, Member
from streams.settings import BoundSettings, JoinSettings, StateSettings, StreamsSettings
from streams.workload import START

Measured = list[tuple[str, str, list[float]]]

PER_S = 10_000.0
"""Slates per second of event time in the filled topics."""

THROUGH = StreamsSettings(
    join=JoinSettings(window_s=5, lateness_s=1, skew_s=1, early_wait_s=5, remember_s=2),
    state=StateSettings(enabled=False),
)
"""Short windows: slates settle and are forgotten while others come."""

OPEN = StreamsSettings(
    join=JoinSettings(window_s=86_400, lateness_s=1, skew_s=1, early_wait_s=60, remember_s=60),
    state=StateSettings(enabled=False),
)
"""A window of a day: all stay open."""

LIVE = StreamsSettings(
    join=JoinSettings(window_s=20, lateness_s=1, skew_s=1, early_wait_s=5, remember_s=5),
    state=StateSettings(enabled=False),
)
"""What a live loop may have."""


@contextmanager
def bench_topics(bootstrap: str, partitions: int = 8) -> Iterator[KafkaSettings]:
    """Topics of their own, deleted afterwards."""
    kafka = KafkaSettings(bootstrap=bootstrap, namespace=f"bench{uuid.uuid4().hex[:8]}-", partitions=partitions)
    create_topics(kafka)
    try:
        yield kafka
    finally:
        admin = KafkaAdminClient(**kafka.client())
        admin.delete_topics([kafka.name(topic.name) for topic in TOPICS])
        admin.close()


@contextmanager
def filled(bootstrap: str, *, slates: int, outputs: tuple[str, ...] = ()) -> Iterator[KafkaSettings]:
    """Filled input topics for another system to join, and topics for what it puts out."""
    with bench_topics(bootstrap) as kafka:
        admin = KafkaAdminClient(**kafka.client())
        try:
            new = [
                NewTopic(kafka.name(name), num_partitions=kafka.partitions, replication_factor=1) for name in outputs
            ]
            admin.create_topics(new)
            fill(kafka, slates=slates, end_s=100)
            yield kafka
            admin.delete_topics([kafka.name(name) for name in outputs])
        finally:
            admin.close()


@contextmanager
def _member(
    kafka: KafkaSettings, settings: StreamsSettings, name: str = "one", folder: Path | None = None
) -> Iterator[Member]:
    home = folder or Path(tempfile.mkdtemp(prefix="everloop-bench-"))
    member = Member(name, kafka=kafka, settings=settings, folder=home)
    try:
        yield member
    finally:
        if member.alive:
            member.stop()
        if folder is None:
            shutil.rmtree(home)


def client(name: str, kafka: KafkaSettings, **options: Any) -> subprocess.Popen[str]:
    """Start one of `streams.load`'s clients."""
    given = json.dumps(
        {"bootstrap": kafka.bootstrap, "namespace": kafka.namespace, "partitions": kafka.partitions, **options}
    )
    command = [sys.executable, "-m", "streams.load", name, given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE)


def fill(kafka: KafkaSettings, *, slates: int, first: int = 0, end_s: float = -1, start: int = START) -> None:
    """Fill the input topics; with `end_s`, a tick that much later ends them."""
    process = client("fill", kafka, slates=slates, first=first, per_s=PER_S, start=start, end_s=end_s)
    if process.wait():
        raise RuntimeError("the client that fills the topics failed")


def throughput(bootstrap: str, *, slates: int, say: Callable[[str], None]) -> tuple[float, Ledger]:
    """Slates per second of one worker, the input being in the topics, from its start of work to the last commit."""
    with bench_topics(bootstrap) as kafka:
        fill(kafka, slates=slates, end_s=100)
        with _member(kafka, THROUGH) as member:
            member.start()
            member.ready()
            began, cpu = time.time(), member.cpu_s()
            ended, ledger = until_read(kafka)
            used = member.cpu_s() - cpu
        say(f"throughput: {slates / (ended - began):,.0f} slates/s, {1e6 * used / slates:.1f} µs of CPU a slate")
        if ledger.residual or ledger.sample_residual or ledger.open or ledger.slates != slates:
            raise DivergedError(f"the ledger of the bench does not come out: {ledger}")
        return slates / (ended - began), ledger


def until_read(kafka: KafkaSettings, timeout_s: float = 300) -> tuple[float, Ledger]:
    """Wait until all input has been joined; answers Kafka's time of the last commit, and the ledger."""
    consumer = KafkaConsumer(**kafka.client(), isolation_level="read_committed", enable_auto_commit=False)
    samples = [TopicPartition(kafka.name(SAMPLES), n) for n in range(kafka.partitions)]
    inputs = [
        TopicPartition(kafka.name(topic), n) for topic in (PREDICTIONS, OUTCOMES) for n in range(kafka.partitions)
    ]
    done: dict[int, tuple[float, Ledger]] = {}
    deadline = time.monotonic() + timeout_s
    try:
        ends = {(each.topic, each.partition): end for each, end in consumer.end_offsets(inputs).items()}
        while len(done) < kafka.partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only partitions {sorted(done)} have been joined to the end after {timeout_s:g} s")
            time.sleep(0.2)
            # Only the last records are looked at: reading all samples would take the processor from what is measured.
            for where, end in consumer.end_offsets(samples).items():
                progress = _last_progress(consumer, where, end) if where.partition not in done else None
                if progress is None:
                    continue
                n, at = where.partition, (progress[1].predictions_offset, progress[1].outcomes_offset)
                if at == (ends[kafka.name(PREDICTIONS), n], ends[kafka.name(OUTCOMES), n]):
                    done[n] = progress[0], progress[1].ledger
        total = Ledger()
        for _, ledger in done.values():
            total.add(ledger)
        return max(at for at, _ in done.values()), total
    finally:
        consumer.close()


def _last_progress(consumer: KafkaConsumer, where: TopicPartition, end: int) -> tuple[float, Progress] | None:
    # The last record of a transaction is its progress; the broker's own marker stands behind it.
    if end < 2:
        return None
    consumer.assign([where])
    consumer.seek(where, end - 2)
    for record in consumer.poll(timeout_ms=2_000).get(where, ()):
        event = decode_output(record.value) if record.key is None else None
        if isinstance(event, Progress):
            return record.timestamp / 1000, event
    return None


def latency(bootstrap: str, *, rate: float, seconds: float, settings: StreamsSettings = LIVE) -> dict[str, float]:
    """Quantiles of the time from an outcome's append to its sample being readable, at a live rate of slates."""
    with bench_topics(bootstrap) as kafka, _member(kafka, settings) as member:
        member.start()
        member.ready()
        reader = client("read", kafka, seconds=seconds + 3, warm_s=3)
        assert reader.stdout is not None
        reader.stdout.readline()
        cpu = member.cpu_s()
        sender = client("live", kafka, rate=rate, seconds=seconds)
        sent = json.loads(sender.communicate()[0])
        used = (member.cpu_s() - cpu) / seconds
        found: dict[str, float] = json.loads(reader.communicate()[0].splitlines()[-1])["delays"]
        return found | {"rate": sent["rate"], "cpu": used}


def memory_and_recovery(bootstrap: str, *, slates: int, runs: int, say: Callable[[str], None]) -> Measured:
    """Growth of memory per open slate; and how long a killed worker takes until all of them are ready again."""
    base, in_memory = 20_000, replace(OPEN, bounds=BoundSettings(slates_in_memory=slates, slates=2 * slates))
    with_disk, without = list[float](), list[float]()
    with bench_topics(bootstrap) as kafka:
        fill(kafka, slates=base, end_s=0)
        with _member(kafka, in_memory) as member:
            member.start()
            port = member.ready()["http"]
            until_read(kafka)
            before = member.memory()
            fill(kafka, slates=slates - base, first=base, end_s=0)
            until_read(kafka)
            per_slate = (member.memory() - before) / (slates - base)
            say(f"memory: {per_slate:.0f} bytes per open slate")
            for run in range(2 * runs):
                member.kill()
                if run >= runs:
                    shutil.rmtree(member.folder / member.name)
                began = time.monotonic()
                member.start()
                port = member.ready(timeout_s=300)["http"]
                took = time.monotonic() - began
                (with_disk if run < runs else without).append(took)
                found = member.ledger(port)["total"]
                if found["open"] != 20 * slates:
                    raise DivergedError(f"after a kill {found['open']} impressions are open: {20 * slates} were")
                say(f"recovery: {took:.1f} s {'with' if run < runs else 'without'} the disk")
                # What is on disk is written while it works: give it the time that a worker has between two crashes.
                time.sleep(5)
    return [
        ("bytes_per_open_slate", "bytes", [per_slate]),
        ("recovery_1m_s", "s", with_disk),
        ("recovery_1m_without_disk_s", "s", without),
    ]


def gap(bootstrap: str, *, taken_over: bool) -> float:
    """How long a partition stands still when its worker is killed: restarted under its name, or another takes over."""
    with bench_topics(bootstrap) as kafka:
        folder = Path(tempfile.mkdtemp(prefix="everloop-bench-"))
        with _member(kafka, LIVE, "one", folder) as one, _member(kafka, LIVE, "two", folder) as two:
            one.start()
            one.ready()
            if taken_over:
                two.start()
                two.ready()
            sender = client("live", kafka, rate=800, seconds=35 if taken_over else 25)
            time.sleep(8)
            one.kill()
            if not taken_over:
                one.start()
            sender.wait()
            until_read(kafka)
            longest = _silence(kafka)
        shutil.rmtree(folder)
        return longest


def _silence(kafka: KafkaSettings) -> float:
    from streams.chaos import records

    longest = 0.0
    for number in range(kafka.partitions):
        times = [record.timestamp / 1000 for record in records(kafka, SAMPLES, number) if record.key is None]
        # The first commits come before the load does.
        load = [at for at in times if at > times[0] + 3]
        longest = max([longest, *(b - a for a, b in pairwise(load))])
    return longest


def bench(
    bootstrap: str,
    *,
    runs: int = 3,
    slates: int = 300_000,
    open_slates: int = 1_000_000,
    say: Callable[[str], None] = print,
) -> Measured:
    """Measure everything; minutes.

    One run of the throughput goes before those that count: a broker that has just started still compiles its own code, on the same
    cores, and a broker that joins all day has long done so.
    """
    throughput(bootstrap, slates=slates, say=lambda line: say(f"not counted: {line}"))
    through = [throughput(bootstrap, slates=slates, say=say) for _ in range(runs)]
    found: Measured = [
        ("slates_per_s", "1/s", [value for value, _ in through]),
        ("residual", "", [ledger.residual for _, ledger in through]),
        ("sample_residual", "", [ledger.sample_residual for _, ledger in through]),
    ]
    for rate in (50, 2_000, 8_000, 12_000, 16_700):
        times = runs if rate in (50, 8_000) else 1
        quantiles = [latency(bootstrap, rate=rate, seconds=15) for _ in range(times)]
        say(f"latency at {rate}/s: {quantiles}")
        suffix = "" if rate == 8_000 else f"_at_{rate}"
        found += [(f"positive_{q}_ms{suffix}", "ms", [each[q] for each in quantiles]) for q in ("p50", "p99")]
    found += memory_and_recovery(bootstrap, slates=open_slates, runs=runs, say=say)
    for name, taken_over in (("gap_restarted_s", False), ("gap_taken_over_s", True)):
        found.append((name, "s", [gap(bootstrap, taken_over=taken_over) for _ in range(runs)]))
        say(f"{name}: {found[-1][2]}")
    return found
