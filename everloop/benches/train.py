"""`everloop bench train`: the learner's speed, the trainer's from Kafka and after a kill, and on a log what admission saves; beside
them Vowpal Wabbit and River on user × item."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from everloop.benches import Measured, Options, figures
from everloop.demo import profile
from everloop.figures import Figure, Peer, Report, report
from everloop.logs.catalogue import find
from everloop.logs.samples import samples
from everloop.logs.slates import Log
from everloop.peers import environment
from everloop.runtime.kafka import KafkaNode
from everloop.runtime.settings import KafkaNodeSettings
from everloop.session import open_session
from feedback.features import Feature, FeatureSpec
from trainer.batch import Batch
from trainer.settings import ModelSettings, SlotSettings

ROWS: Final = 300_000
STEP: Final = 2_048
_PEERS: Final = (("vowpal.py", ()), ("river_learn.py", ("logistic", "60000")), ("river_learn.py", ("fm", "15000")))


def run(options: Options) -> Report:
    """Measure the learner, the trainer on a Kafka of its own, the log that was named, and the peers on the same rows as
    `user_item_samples_per_s`."""
    from trainer import backlog, bench

    # What is wrong with the log shall be said before anything is measured, not after.
    log = find(options.log, options.mapping) if options.log else None
    found = figures(bench.run(options.runs, say=_say))
    with (
        tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder,
        KafkaNode(Path(folder), settings=KafkaNodeSettings(heap_mib=1024)) as node,
    ):
        found += figures(backlog.run(node.bootstrap, options.runs, say=_say))
    if log is not None:
        found += figures(_worth(log))
    else:
        _say("no --log: rows_saved, admission_auc_lost and the publishing intervals are left out")
    peers: list[Peer] = []
    if options.peers:
        ours, peers = _peers(options.runs)
        found.append(ours)
    return report("train", found, peers)


def _worth(log: Log) -> Measured:
    """What admission saves and freshness is worth on a log, with the settings that its mapping begins with."""
    from trainer.worth import worth

    config = open_session(flags=profile.base(log.mapping)).loaded.config
    return worth(lambda: samples(log), features=config.features, settings=config.trainer, say=_say)


def _peers(runs: int) -> tuple[Figure, list[Peer]]:
    """The learner as the peers see it, and they."""
    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder:
        rows = Path(folder) / "rows.tsv"
        made = make_rows(ROWS)
        rows.write_text("".join(f"{y}\t{user}\t{item}\n" for y, user, item in made), encoding="utf-8")
        (ours,) = figures([("user_item_samples_per_s", "1/s", [user_item(made) for _ in range(runs)])])
        theirs = [[environment.run("learn", script, str(rows), *more) for _ in range(runs)] for script, more in _PEERS]
    return ours, [_peer(each, ours) for each in theirs]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def user_item(rows: Sequence[tuple[int, str, str]]) -> float:
    """Samples a second of a linear model on user, item and their cross, in steps of 2,048: predict, then learn.

    Timed as the peers are: from decoded strings in memory, on warm graphs, with an empty model. The keys of the next step are worked out
    by another thread, as Vowpal Wabbit parses in another.
    """
    from trainer.learner import Learner

    features = FeatureSpec(features=(Feature(name="user", source="user"), Feature(name="item", source="item")))
    settings = ModelSettings(kind="linear", crosses=("user*item",), slots=SlotSettings(capacity=1 << 20))
    batches = [_batch(rows[at : at + STEP]) for at in range(0, len(rows) - STEP, STEP)]
    warm = Learner(features, settings, line="warm")
    for batch in batches[:3]:
        warm.learn(batch)
    learner = Learner(features, settings, line="bench")
    learner.learn(batches[0])
    with ThreadPoolExecutor(1) as pool:
        start, learned = time.perf_counter(), 0
        waiting = pool.submit(learner.prepare, batches[1])
        for batch, following in zip(batches[1:], (*batches[2:], None), strict=True):
            keyed = waiting.result()
            if following is not None:
                waiting = pool.submit(learner.prepare, following)
            learned += len(learner.learn(batch, keyed))
        return learned / (time.perf_counter() - start)


def _batch(rows: Sequence[tuple[int, str, str]]) -> Batch:
    labels, users, items = zip(*rows, strict=True)
    return Batch(
        columns={"user": np.array(users, dtype=object), "item": np.array(items, dtype=object)},
        emissions=np.array(labels, dtype=np.int8),
        weights=np.ones(len(rows), dtype=np.float32),
        positions=np.zeros(len(rows), dtype=np.int32),
        event_time=0,
    )


def make_rows(count: int, *, users: int = 20_000, items: int = 2_000, seed: int = 1) -> list[tuple[int, str, str]]:
    """Rows (y, user, item) with a heavy tail in which half of the items please half of the users."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        user, item = int(users * chance.random() ** 2), int(items * chance.random() ** 3)
        rows.append((int(chance.random() < (0.4 if (user ^ item) & 1 else 0.1)), str(user), str(item)))
    return rows


def _peer(found: Sequence[dict[str, Any]], ours: Figure) -> Peer:
    """A peer's median."""
    value = median(float(each["samples_per_s"]) for each in found)
    return Peer(
        name=found[0]["name"],
        version=found[0]["version"],
        figure=ours.name,
        value=value,
        unit="1/s",
        ratio=ours.value / value,
    )
