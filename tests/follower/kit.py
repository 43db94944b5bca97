"""A small trainer for the follower's tests: real SavedModels with the contract's signatures, real records, no learning.

The model has one whole-number weight per slot, so that a delta's effect is known exactly and a checksum is a plain sum.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import tensorflow as tf
from crc32c import crc32c
from kafka import KafkaProducer

from feedback.clock import now_us
from feedback.deltas import DeltaHeader
from feedback.features import Feature
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, DELTAS, MODELS
from feedback.versions import MANIFEST, Control, FileEntry, Manifest, ModelEvent, encode

SLOTS = 16
FEATURES = [Feature(name="item_id", source="item"), Feature(name="tags", source="candidate", kind="strings")]


class Net(tf.Module):
    """Scores by one weight; `sync` sets one weight per delta."""

    def __init__(self, weights: list[int], epoch: int, sequence: int) -> None:
        super().__init__()
        self.weights = tf.Variable(weights, dtype=tf.int64)
        self.place = tf.Variable([epoch, sequence], dtype=tf.int64)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "item_id"), tf.TensorSpec([None, None], tf.string, "tags")]
    )
    def serve(self, item_id: Any, tags: Any) -> Any:
        place = self.place.read_value()
        with tf.control_dependencies([place]):
            slots = tf.strings.to_hash_bucket_fast(item_id, SLOTS)
            logits = tf.cast(tf.gather(self.weights, slots), tf.float32) / 1000.0
        scores = tf.sigmoid(logits + 0.0 * tf.cast(tf.shape(tags)[1], tf.float32))
        return {"score": scores, "sequence": tf.fill(tf.shape(scores), place[1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "delta")])
    def sync(self, delta: Any) -> Any:
        for i in tf.range(tf.shape(delta)[0]):
            if delta[i] != "":
                words = tf.io.decode_raw(delta[i], tf.int64)
                if tf.reduce_all(tf.equal(words[:2], self.place)):
                    self.weights.scatter_nd_update(words[2:3][None], words[3:4])
                    self.place.assign(words[:2] + tf.constant([0, 1], tf.int64))
        place = self.place.read_value()
        return {"sequence": tf.fill(tf.shape(delta), place[1]), "epoch": tf.fill(tf.shape(delta), place[0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "probe")])
    def checksum(self, probe: Any) -> Any:
        total = tf.reduce_sum(self.weights * tf.range(1, SLOTS + 1, dtype=tf.int64))
        return {"checksum": tf.fill(tf.shape(probe), total), "sequence": tf.fill(tf.shape(probe), self.place[1])}


@dataclass
class Line:
    """A model line in a real Kafka: it publishes deltas, checksums, versions and control records."""

    kafka: KafkaSettings
    store: Path
    model: str = "news"
    spec: str = "aaaa"
    epoch: int = 1
    sequence: int = 0
    weights: list[int] = field(default_factory=lambda: [0] * SLOTS)
    saved: dict[int, tuple[list[int], int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.model}-{self.spec}"

    def __post_init__(self) -> None:
        self.producer = KafkaProducer(**self.kafka.client(), linger_ms=0)

    def send(self, topic: str, key: bytes, value: bytes, headers: Any = ()) -> None:
        self.producer.send(self.kafka.name(topic), key=key, value=value, headers=list(headers))
        self.producer.flush()

    def delta(self, *, publish: bool = True, parts: int = 1, damage: bool = False, wrong: int = 0) -> None:
        """Set the next weight; `wrong` makes the delta say another value than the trainer keeps."""
        slot, value = self.sequence % SLOTS, self.sequence % 997 - 400
        body = struct.pack("<4q", self.epoch, self.sequence, slot, value + wrong)
        self.weights[slot] = value
        self.sequence += 1
        if publish:
            self.publish("rows", body, parts, damage, 0)

    def checksum(self) -> None:
        expected = sum(weight * place for place, weight in enumerate(self.weights, 1))
        self.publish("checksum", b"probe", 1, False, expected)

    def publish(self, kind: Any, body: bytes, parts: int, damage: bool, expected: int) -> None:
        size = -(-len(body) // parts)
        for part in range(parts):
            piece = body[part * size : (part + 1) * size]
            header = DeltaHeader(
                line=self.name, kind=kind, epoch=self.epoch, part=part + 1, parts=parts,
                previous=self.sequence - (kind == "rows"), sequence=self.sequence, expected=expected,
                crc32c=crc32c(piece) ^ damage, sent_times=[now_us()], trained_time=now_us(),
            )  # fmt: skip
            self.send(DELTAS, self.name.encode(), piece, header.record_headers())

    def base(self, version: int, *, gated: bool = True, weights: list[int] | None = None, **detail: Any) -> Path:
        """Export a version, as the trainer does, and announce it."""
        folder = self.store / str(version)
        net = Net(weights or self.weights, self.epoch, self.sequence)
        signatures = {"serving_default": net.serve, "sync": net.sync, "checksum": net.checksum}
        tf.saved_model.save(net, str(folder), signatures=signatures)
        self.saved[version] = (list(self.weights), self.sequence)
        write_manifest(folder, self, version)
        if gated:
            self.announce(version, "exported", **detail)
            self.announce(version, "gated", **detail)
        return folder

    def announce(self, version: int, event: Any, **detail: Any) -> None:
        record = ModelEvent(
            model=self.model, line=self.name, version=version, event=event, time=now_us(), epoch=self.epoch,
            sequence=self.sequence, uri=str(self.store / str(version)), by="trainer", detail=detail,
        )  # fmt: skip
        self.send(MODELS, record.key, encode(record))

    def control(self, **fields: Any) -> None:
        self.send(CONTROL, self.model.encode(), encode(Control(model=self.model, time=now_us(), by="test", **fields)))

    def roll_back(self, version: int, new: int) -> None:
        """What the trainer does on a rollback: the state of that version, a higher epoch, a new base."""
        self.weights, self.sequence = list(self.saved[version][0]), self.saved[version][1]
        self.epoch += 1
        self.base(new)

    def close(self) -> None:
        self.producer.close()


def write_manifest(
    folder: Path,
    line: Line,
    version: int,
    features: list[Feature] | None = None,
    capacities: dict[str, int] | None = None,
) -> None:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            data = path.read_bytes()
            files[os.fspath(path.relative_to(folder))] = FileEntry(
                size=len(data), sha256=hashlib.sha256(data).hexdigest()
            )
    manifest = Manifest(
        model=line.model, line=line.name, version=version, epoch=line.epoch, sequence=line.sequence, step=line.sequence,
        created=now_us(), offsets={}, watermark=0, metrics={}, digest="", features=features or FEATURES, files=files, code_version="t",
        capacities=capacities or {},
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
