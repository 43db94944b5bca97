"""What a swap costs readers: a steady load on the label `live`, and the latency while versions load against all the rest.

Requests start on a clock of their own, whatever becomes of those before them: a server that stands still for a second is
measured as one, not as a pause of the load.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import grpc

from feedback.clock import SECOND, now_us, to_us
from feedback.pace import beats
from serving.protocol import serving_pb2 as wire

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_AFTER_S = 1.0
"""A swap's window ends this long after its label has moved."""


@dataclass(frozen=True)
class Shot:
    """One request of the load."""

    at: int
    """When it was due, wall clock, µs."""
    seconds: float
    """From then to its answer."""
    version: int
    """That answered; 0: it failed."""
    error: str = ""


@dataclass(frozen=True)
class Ratio:
    """p99 inside the windows over p99 outside, with a 95 % interval (bootstrap over whole windows)."""

    value: float
    low: float
    high: float
    inside: int
    outside: int


def drive(
    address: str,
    *,
    model: str,
    inputs: Mapping[str, wire.TensorProto],
    rate: float,
    seconds: float,
    label: str = "live",
) -> list[Shot]:
    """Send `rate` requests a second for `seconds` to a model server; every one of them is in the answer.

    From a process of its own: what else this one does would be measured as latency of the server.
    """
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = model, label
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_drive, address, request.SerializeToString(), rate, seconds).result()


def _drive(address: str, data: bytes, rate: float, seconds: float) -> list[Shot]:
    # A collection among the tens of thousands of calls that are kept would stand still for as long as a slow request.
    gc.disable()
    return asyncio.run(_load(address, data, rate, seconds))


async def _load(address: str, data: bytes, rate: float, seconds: float) -> list[Shot]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(_PREDICT, response_deserializer=wire.PredictResponse.FromString)
        # Wall time of a moment: swaps are told by it.
        offset = now_us() - to_us(time.monotonic())
        shots = []
        async for due in beats(rate, seconds):
            shots.append(asyncio.create_task(_shoot(call, data, offset + to_us(due), due)))
        return await asyncio.gather(*shots)


async def _shoot(call: grpc.aio.UnaryUnaryMultiCallable, data: bytes, at: int, due: float) -> Shot:
    try:
        answer = await call(data, timeout=30)
    except grpc.RpcError as error:
        return Shot(at, time.monotonic() - due, 0, str(error.code()))
    return Shot(at, time.monotonic() - due, int(answer.model_spec.version.value))


def windows(swaps: Sequence[Mapping[str, int]]) -> list[tuple[int, int]]:
    """From the follower's `/status`, `swaps`: when each load was asked for, to 1 s after its label had moved."""
    return [(swap["asked"], swap["moved"] + round(_AFTER_S * SECOND)) for swap in swaps if swap["live"]]


def p99_ratio(shots: Sequence[Shot], swaps: Sequence[tuple[int, int]], *, seed: int = 0, draws: int = 1000) -> Ratio:
    """Compare the requests in the swaps' windows, pooled, with all others."""
    inside = [[shot.seconds for shot in shots if begin <= shot.at <= end] for begin, end in swaps]
    inside = [window for window in inside if window]
    outside = [shot.seconds for shot in shots if not any(begin <= shot.at <= end for begin, end in swaps)]
    pooled = [seconds for window in inside for seconds in window]
    base = p99(outside)
    rng = random.Random(seed)
    drawn = sorted(
        p99([seconds for window in rng.choices(inside, k=len(inside)) for seconds in window]) / base
        for _ in range(draws)
    )
    low, high = drawn[round(0.025 * draws)], drawn[min(round(0.975 * draws), draws - 1)]
    return Ratio(p99(pooled) / base, low, high, len(pooled), len(outside))


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]
