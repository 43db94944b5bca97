"""The trainer's own models through the follower and the model server: deltas, a swap, and the checksum of their rows."""

from __future__ import annotations

from typing import Any

from crc32c import crc32c

from feedback.clock import now_us
from feedback.deltas import DeltaHeader
from feedback.features import FeatureSpec
from feedback.topics import DELTAS
from serving.follower.server import ModelServer
from tests.follower.conftest import Start
from tests.follower.kit import Line, write_manifest
from tests.follower.stage import eventually, is_live
from tests.trainer.core import rows
from trainer.batch import Batch


def send(line: Line, learner: Any, value: bytes, *, kind: Any = "rows", expected: int = 0) -> None:
    header = DeltaHeader(
        line=line.name, kind=kind, epoch=1, previous=learner.sequence - (kind == "rows"), sequence=learner.sequence,
        expected=expected, crc32c=crc32c(value), sent_times=[now_us()],
    )  # fmt: skip
    line.send(DELTAS, line.name.encode(), value, header.record_headers())


def export(line: Line, learner: Any, version: int, spec: FeatureSpec, warmup: Batch | None = None) -> None:
    folder = line.store / str(version)
    snapshot = learner.snapshot()
    snapshot.export(folder, warmup or rows.batch(99))
    line.sequence = learner.sequence
    write_manifest(folder, line, version, list(spec.features), snapshot.capacities())
    line.announce(version, "exported")
    line.announce(version, "gated")


def test_a_learner_is_followed_delta_by_delta_and_over_a_swap(follow: Start, line: Line, ask: ModelServer) -> None:
    from trainer.learner import Learner
    from trainer.settings import ModelSettings

    learner = Learner(rows.SPEC, ModelSettings(kind="deepfm", dim=4, hidden=(8,)), line=line.name, epoch=1)
    learner.learn(rows.batch(0))
    assert learner.take_delta(), "what the first base contains"
    export(line, learner, 1, rows.SPEC)
    follower = follow()
    for seed in range(1, 9):
        learner.learn(rows.batch(seed))
        send(line, learner, learner.take_delta())
        if seed == 4:
            export(line, learner, 2, rows.SPEC)
    probe, expected = learner.checksum(7)
    send(line, learner, probe, kind="checksum", expected=expected)
    eventually(lambda: is_live(follower, 2, learner.sequence))
    eventually(lambda: follower.metrics.passed._value.get() >= 1, what="the checksum held")
    assert follower.metrics.failed._value.get() == 0
    assert not follower.status()["unusable"]
    learner.close()


def test_a_base_that_ran_out_of_room_gives_way_to_one_that_scores_otherwise_for_it(follow: Start, line: Line) -> None:
    from trainer.learner import Learner
    from trainer.settings import ModelSettings, SlotSettings

    settings = ModelSettings(kind="deepfm", dim=4, hidden=(8,), slots=SlotSettings(capacity=64, room=0.25))
    learner = Learner(rows.SPEC, settings, line=line.name, epoch=1)
    learner.learn(rows.batch(0, users=10))
    learner.take_delta()
    export(line, learner, 1, rows.SPEC)
    follower = follow()
    for seed in range(1, 9):
        learner.learn(rows.batch(seed, users=2000, items=2000))
        send(line, learner, learner.take_delta())
    # Hardly a row of these has its place in the first base.
    export(line, learner, 2, rows.SPEC, rows.batch(8, users=2000, items=2000))
    learner.learn(rows.batch(9))
    send(line, learner, learner.take_delta())
    eventually(lambda: is_live(follower, 2, learner.sequence), what="the larger base is live")
    assert not follower.status()["unusable"]
    learner.close()
