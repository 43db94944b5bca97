"""Chaos: workers killed, frozen and joined by others at random moments under load, then every sample compared with the undisturbed run.

The undisturbed run is the join itself over the same logs, in one piece, in this process: its samples must be those in the topic, byte for
byte. A second comparison is with the events sorted and once each: the same labels.

    python -m streams.chaos --kafka HOST:PORT [--slates N] [--kills N] [--freezes N] [--extra N] [--seed N] [--write docs/chaos.md]
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from msgspec import Struct, structs

from feedback.codec import decode_output, encode
from feedback.events import Ledger, Progress, Sample
from feedback.settings import KafkaSettings
from feedback.topics import DEADLETTER, OUTCOMES, PREDICTIONS, SAMPLES, create_topics
from streams.fleet import Member
from streams.join import Join
from streams.settings import JoinSettings, LabelSettings, StateSettings, StreamsSettings
from streams.workload import Entry, Script

JOIN = JoinSettings(window_s=30, lateness_s=5, hold_s=0, skew_s=2, early_wait_s=20, remember_s=20)
FREEZE_S = 9.0
"""Longer than the session: the group gives the frozen worker's partitions away."""


class Result(Struct, kw_only=True):
    """What a chaos run found."""

    seed: int
    slates: int
    candidates: int
    records: int
    seconds: float
    kills: int
    freezes: int
    joins: int
    """How often a worker was given partitions: each rebalance at least once."""
    samples: int
    lost: int
    """Samples of the undisturbed run that are not in the topic."""
    taught_twice: int
    """Samples that stand in the topic more than once."""
    different: int
    """Samples in the topic that the undisturbed run has not."""
    labels_different: int
    """Samples that differ in their labels from those of the sorted input."""
    dead_letters_lost: int
    dead_letters_twice: int
    ledger: Ledger
    residual: int
    sample_residual: int
    longest_silence_s: float

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or changed."""
        wrong = self.lost, self.taught_twice, self.different, self.labels_different, self.dead_letters_lost
        return not any((*wrong, self.dead_letters_twice, self.residual, self.sample_residual, self.ledger.open))


class _Offset(Struct, frozen=True):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def storm(
    bootstrap: str,
    *,
    slates: int = 50_000,
    kills: int = 20,
    freezes: int = 5,
    extra: int = 5,
    partitions: int = 4,
    seed: int = 1,
    pause_s: float = 4.0,
    join: JoinSettings = JOIN,
    labels: LabelSettings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run two workers under load; kill `kills` times, freeze `freezes` times, let a third worker join and leave `extra` times."""
    random, began = Random(seed), time.monotonic()
    kafka = KafkaSettings(bootstrap=bootstrap, namespace=f"chaos{uuid.uuid4().hex[:8]}-", partitions=partitions)
    settings = StreamsSettings(join=join, labels=labels or LabelSettings(), state=StateSettings(enabled=False))
    create_topics(kafka)
    actions = ["kill"] * kills + ["freeze"] * freezes + ["extra"] * extra
    random.shuffle(actions)
    script = Script(
        seed=seed, slates=slates, span_s=600, partitions=partitions, window_s=join.window_s, lateness_s=join.lateness_s
    )
    folder = Path(tempfile.mkdtemp(prefix="everloop-chaos-"))
    crew = [Member(name, kafka=kafka, settings=settings, folder=folder) for name in ("one", "two", "three")]
    producer = KafkaProducer(**kafka.client(), acks="all", linger_ms=20)
    try:
        for member in crew[:2]:
            member.start()
        for member in crew[:2]:
            member.ready()
        load = script.slices(20 * (len(actions) + 1))
        for action in actions:
            _send(producer, kafka, load, 20, pause_s * random.uniform(0.5, 1.5))
            say(action)
            _act(action, crew, random)
        _send(producer, kafka, load, 20, pause_s)
        for _ in range(3):
            _finish(producer, kafka, script)
        for member in crew[:2]:
            if not member.alive:
                member.start()
        say("waiting for the end")
        _wait(kafka, timeout_s=180)
    finally:
        producer.close()
        statuses = [member.stop() for member in crew if member.alive]
        joins = sum(member.joins() for member in crew)
    say(f"workers ended with {statuses}, comparing")
    result = compare(kafka, settings, script)
    shutil.rmtree(folder)
    return structs.replace(
        result, seed=seed, seconds=round(time.monotonic() - began, 1), kills=kills, freezes=freezes, joins=joins
    )


def _act(action: str, crew: list[Member], random: Random) -> None:
    victim = random.choice([member for member in crew if member.alive] or crew[:1])
    if action == "extra":
        third = crew[2]
        if third.alive:
            third.stop()
        else:
            third.start()
        return
    if action == "kill":
        victim.kill()
        time.sleep(random.uniform(0.1, 2.0))
    else:
        victim.signal(signal.SIGSTOP)
        time.sleep(FREEZE_S)
        victim.signal(signal.SIGCONT)
    for member in crew[:2]:
        if not member.alive:
            member.start()


def _send(
    producer: KafkaProducer,
    kafka: KafkaSettings,
    load: Iterable[list[tuple[bool, int, list[Entry]]]],
    count: int,
    span_s: float,
) -> None:
    for _, stretch in zip(range(count), load, strict=False):
        for is_prediction, partition, entries in stretch:
            topic = kafka.name(PREDICTIONS if is_prediction else OUTCOMES)
            for _, key, value in entries:
                producer.send(topic, key=key, value=value, partition=partition)
        producer.flush()
        time.sleep(span_s / count)


def _finish(producer: KafkaProducer, kafka: KafkaSettings, script: Script) -> None:
    for topic in (PREDICTIONS, OUTCOMES):
        for partition in range(kafka.partitions):
            producer.send(kafka.name(topic), value=script.end(10_000), partition=partition)
    producer.flush()


def records(kafka: KafkaSettings, topic: str, partition: int) -> list[_Offset]:
    """Read all committed records of a partition."""
    consumer = KafkaConsumer(**kafka.client(), isolation_level="read_committed", enable_auto_commit=False)
    where = TopicPartition(kafka.name(topic), partition)
    try:
        consumer.assign([where])
        consumer.seek_to_beginning(where)
        end, found = consumer.end_offsets([where])[where], []
        while consumer.position(where) < end:
            for record in consumer.poll(timeout_ms=500).get(where, ()):
                found.append(_Offset(record.offset, record.timestamp, record.key, record.value))
        return found
    finally:
        consumer.close()


def _wait(kafka: KafkaSettings, *, timeout_s: float) -> None:
    """Wait until every partition's last progress record says that all has been read."""
    consumer = KafkaConsumer(**kafka.client(), isolation_level="read_committed", enable_auto_commit=False)
    inputs = [
        TopicPartition(kafka.name(topic), n) for topic in (PREDICTIONS, OUTCOMES) for n in range(kafka.partitions)
    ]
    samples = [TopicPartition(kafka.name(SAMPLES), n) for n in range(kafka.partitions)]
    left, deadline = set(range(kafka.partitions)), time.monotonic() + timeout_s
    try:
        ends = {(each.topic, each.partition): end for each, end in consumer.end_offsets(inputs).items()}
        consumer.assign(samples)
        consumer.seek_to_beginning(*samples)
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions {sorted(left)} have not been read to the end after {timeout_s:g} s")
            for record in chain.from_iterable(consumer.poll(timeout_ms=500).values()):
                progress = decode_output(record.value) if record.key is None else None
                if isinstance(progress, Progress):
                    n = progress.partition
                    done = progress.predictions_offset == ends[kafka.name(PREDICTIONS), n]
                    if done and progress.outcomes_offset == ends[kafka.name(OUTCOMES), n]:
                        left.discard(n)
    finally:
        consumer.close()


def compare(kafka: KafkaSettings, settings: StreamsSettings, script: Script) -> Result:
    """Compare what stands in the topics with the undisturbed run over the same logs, and with the sorted input."""
    total, found, expected, letters = Ledger(), Counter[bytes](), Counter[bytes](), Counter[tuple[str, int, int]]()
    wanted: Counter[tuple[str, int, int]] = Counter()
    silence, read, size = 0.0, 0, 0
    for number in range(kafka.partitions):
        predictions, outcomes = records(kafka, PREDICTIONS, number), records(kafka, OUTCOMES, number)
        read += len(predictions) + len(outcomes)
        calm = Join(number, join=settings.join, labels=settings.labels, bounds=settings.bounds)
        out = calm.feed(predictions, outcomes)
        expected.update(value for _, value in out.samples)
        for refusal in out.refusals:
            wanted[PREDICTIONS if refusal.prediction else OUTCOMES, number, refusal.record.offset] += 1
        taught = records(kafka, SAMPLES, number)
        found.update(record.value for record in taught if record.key is not None and record.value is not None)
        last = max(record.offset for record in taught if record.key is None)
        progress = next(decode_output(record.value or b"") for record in taught if record.offset == last)
        assert isinstance(progress, Progress)
        total.add(progress.ledger)
        silence = max(silence, _silence([*predictions, *outcomes], taught))
    for record in records(kafka, DEADLETTER, 0):
        letter = json.loads(record.value or b"{}")
        letters[letter["topic"], letter["partition"], letter["offset"]] += 1
    size = sum(len(prediction.items) for prediction, _ in script.calm)
    return Result(
        seed=0,
        slates=len(script.calm),
        candidates=size,
        records=read,
        seconds=0,
        kills=0,
        freezes=0,
        joins=0,
        samples=found.total(),
        lost=(expected - found).total(),
        taught_twice=sum(count - 1 for count in found.values()),
        different=len(found.keys() - expected.keys()),
        labels_different=_against_sorted(settings, script, found),
        dead_letters_lost=(wanted - letters).total(),
        dead_letters_twice=(letters - wanted).total(),
        ledger=total,
        residual=total.residual,
        sample_residual=total.sample_residual,
        longest_silence_s=silence,
    )


def _silence(inputs: list[_Offset], taught: list[_Offset]) -> float:
    """The longest that an input record of a partition waited for a commit on it, seconds."""
    received = sorted(record.timestamp for record in inputs)
    longest = 0
    for before, after in pairwise(record.timestamp for record in taught if record.key is None):
        at = bisect_right(received, before)
        if at < len(received) and received[at] < after:
            longest = max(longest, after - received[at])
    return longest / 1000


def _against_sorted(settings: StreamsSettings, script: Script, found: Counter[bytes]) -> int:
    """How many samples have other labels than those of the events sorted and once each."""
    tolerant = replace(settings.join, future_s=1e9)
    calm = Join(0, join=tolerant, labels=settings.labels, bounds=settings.bounds)
    events = sorted((each for _, happened in script.calm for each in happened), key=lambda each: each.event_time)
    first = [_row(n, each.request_id, encode(each)) for n, (each, _) in enumerate(script.calm)]
    then = [_row(n, each.request_id, encode(each)) for n, each in enumerate(events)]
    end = script.end(10_000)
    out = calm.feed([*first, _row(len(first), None, end)], [*then, _row(len(then), None, end)])
    mine = Counter(map(_labels, found.elements()))
    theirs = Counter(_labels(value) for _, value in out.samples)
    return (mine - theirs).total() + (theirs - mine).total()


def _row(offset: int, key: str | None, value: bytes) -> _Offset:
    return _Offset(offset, 2_000_000_000_000, key.encode() if key is not None else None, value)


def _labels(value: bytes) -> bytes:
    sample = decode_output(value)
    assert isinstance(sample, Sample)
    return encode(structs.replace(sample, sent_times=[]))


def main(argv: list[str]) -> int:
    """Run a storm, print its result as JSON, exit 1 where something was lost, doubled or changed."""
    parser = argparse.ArgumentParser(
        prog="python -m streams.chaos", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    for name, default in (("slates", 50_000), ("kills", 20), ("freezes", 5), ("extra", 10), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the result into this page, between its marks")
    asked = parser.parse_args(argv)
    result = storm(
        asked.kafka,
        slates=asked.slates,
        kills=asked.kills,
        freezes=asked.freezes,
        extra=asked.extra,
        seed=asked.seed,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(encode(result).decode())
    if asked.write:
        from streams.page import write

        write(asked.write, result)
    return 0 if result.clean else 1


def summary(result: Result) -> dict[str, Any]:
    """The result as plain values."""
    found: dict[str, Any] = structs.asdict(result)
    return found | {"clean": result.clean}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
