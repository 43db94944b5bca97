"""Probe requests: what a version must answer before readers see it.

The probes are the warm-up requests that the version brings, or, without them, rows made from its feature specification.
"""

from __future__ import annotations

import math
import statistics
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from feedback.errors import CorruptError, UnavailableError
from feedback.versions import Manifest
from serving.follower.server import CallRefusedError, ModelServer, NotLoadedError
from serving.follower.settings import VerifySettings
from serving.follower.tensors import column, floats, integers
from serving.protocol import serving_pb2 as wire

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for warm-up requests: a TFRecord file of PredictionLog."""

_PREDICT_LOG, _REQUEST = 6, 1

Probe = wire.PredictRequest


@dataclass(frozen=True)
class Scores:
    """What a version answered to all probes."""

    values: list[float]
    sequence: int
    """The greatest sequence among the answers; -1: they say none."""


def probes(folder: Path, manifest: Manifest, settings: VerifySettings) -> list[Probe]:
    """The requests to probe a version with.

    Raises:
        CorruptError: its warm-up requests can't be read.
    """
    path = folder / WARMUP
    found = list(_requests(path, settings.requests)) if path.is_file() else []
    return found or [_made(manifest, settings.rows)]


def ask(server: ModelServer, version: int, requests: Sequence[Probe], *, attempts: int) -> Scores:
    """Send the probes to a loaded version.

    Raises:
        CorruptError: an answer is missing, not finite or no probability.
        UnavailableError: the server did not answer in any attempt.
    """
    values: list[float] = []
    sequences: list[int] = [-1]
    for request in requests:
        answer = _predict(server, version, request, attempts)
        if "score" not in answer.outputs:
            raise CorruptError(f"version {version} answers {sorted(answer.outputs)}: score is missing")
        values += floats(answer.outputs["score"])
        if "sequence" in answer.outputs:
            sequences += integers(answer.outputs["sequence"])
    bad = next((value for value in values if not (math.isfinite(value) and 0 <= value <= 1)), None)
    if bad is not None or not values:
        raise CorruptError(f"version {version} scores a probe {bad}: a number from 0 to 1 is allowed")
    return Scores(values, max(sequences))


def comparable(new: Manifest, old: Manifest) -> bool:
    """Whether the two hold the same rows where they are at one sequence: a base that runs out of room lacks those that came then.

    The probes are of the last batch before the new one was made; while many rows are new, most of its scores may differ rightly.
    """
    return all(old.capacities.get(table, rows) >= rows for table, rows in new.capacities.items())


def compare(new: Scores, live: Scores, *, same_model: bool, settings: VerifySettings) -> None:
    """Hold a version's scores against live's, for the same probes. `same_model`: they must be equal, where `comparable` says so.

    Raises:
        CorruptError: they are further apart than allowed.
    """
    if len(new.values) != len(live.values):
        raise CorruptError(f"{len(new.values)} scores, live gives {len(live.values)} for the same probes")
    apart = [abs(a - b) for a, b in zip(new.values, live.values, strict=True)]
    # The median: versions of before they said how much room they have may have run out of it, so that some scores differ rightly.
    if same_model and new.sequence == live.sequence and (middle := statistics.median(apart)) > settings.same:
        raise CorruptError(
            f"half of the probes' scores differ from live's by {middle:.6g} or more at the same sequence {new.sequence}: "
            f"{settings.same:g} is allowed"
        )
    if (mean := sum(apart) / len(apart)) > settings.band:
        raise CorruptError(
            f"the probes' scores differ from live's by {mean:.3g} on average: {settings.band:g} is allowed"
        )


def _predict(server: ModelServer, version: int, request: Probe, attempts: int) -> wire.PredictResponse:
    for left in reversed(range(attempts)):
        try:
            return server.predict(version, request.inputs)
        except (CallRefusedError, NotLoadedError) as error:
            raise CorruptError(f"version {version} refuses a probe: {error}") from error
        except UnavailableError:
            if not left:
                raise
    raise AssertionError("attempts is at least 1")


def _made(manifest: Manifest, rows: int) -> Probe:
    request = wire.PredictRequest()
    for feature in manifest.features:
        request.inputs[feature.name].CopyFrom(column(feature, rows))
    return request


def _requests(path: Path, limit: int) -> Iterator[Probe]:
    """PredictRequests out of a TFRecord file: length (8), its checksum (4), PredictionLog, its checksum (4)."""
    data = path.read_bytes()
    place = 0
    for _ in range(limit):
        if place >= len(data):
            return
        (size,) = struct.unpack_from("<Q", data, place) if place + 12 <= len(data) else (len(data),)
        record = data[place + 12 : place + 12 + size]
        if len(record) < size:
            raise CorruptError(f"{path} ends within a record")
        place += 12 + size + 4
        log = _field(record, _PREDICT_LOG)
        if log is not None and (raw := _field(log, _REQUEST)) is not None:
            try:
                yield wire.PredictRequest.FromString(raw)
            except DecodeError as error:
                raise CorruptError(f"{path}: {error}") from error


def _field(message: bytes, number: int) -> bytes | None:
    """The first length-delimited field of that number; fields of other kinds are stepped over."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 2:
            size, place = _varint(message, place)
            if tag >> 3 == number:
                return message[place : place + size]
            place += size
        elif kind == 0:
            _, place = _varint(message, place)
        else:
            place += 8 if kind == 1 else 4
    return None


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            break
        shift += 7
    return value, place
