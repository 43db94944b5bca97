"""`everloop bench swap`: what hot swaps cost readers, at 200 requests/s to the model server of a loop that learns meanwhile."""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import Final

from everloop.benches import Options, figures
from everloop.benches.whole import Whole, whole
from everloop.figures import Report, report
from serving.follower.bench import Shot, drive, p99_ratio, windows
from serving.protocol.tensors import strings

RATE: Final = 200.0
SECONDS: Final = 200.0
_EVERY_S: Final = 4.0
_CANDIDATES: Final = 50


def run(options: Options) -> Report:
    """Measure, `options.runs` times."""
    found: dict[str, list[float]] = {}
    for number in range(options.runs):
        for name, value in _measure(number + 1).items():
            found.setdefault(name, []).append(value)
    return report("swap", figures([(name, "", values) for name, values in found.items()]))


def _measure(seed: int) -> dict[str, float]:
    with whole(
        {
            "trainer.versions.every_s": _EVERY_S,
            "trainer.versions.share": 1.0,
            "trainer.gate.probation": 0,
            "steer.guard.enabled": False,
        }
    ) as loop:
        readers = threading.Thread(target=loop.readers, kwargs={"rate": 20.0, "seconds": SECONDS + 10, "seed": seed})
        readers.start()
        shots = _shots(loop)
        readers.join()
        with urllib.request.urlopen(f"{loop.supervisor.addresses['follower']}/status", timeout=10) as answer:
            swaps = windows(json.load(answer)["swaps"])
        ratio = p99_ratio(shots, swaps, seed=seed)
        return {
            "swap_p99_ratio": ratio.value,
            "swap_p99_ratio_low": ratio.low,
            "swap_p99_ratio_high": ratio.high,
            "swaps": float(len(swaps)),
            "failed_requests": float(sum(bool(shot.error) for shot in shots)),
            "requests": float(len(shots)),
        }


def _shots(loop: Whole) -> list[Shot]:
    inputs = {
        "user": strings(["u1"] * _CANDIDATES),
        "item": strings([f"i{number}" for number in range(_CANDIDATES)]),
    }
    address = loop.supervisor.addresses["model grpc"]
    return drive(
        address, model=loop.session.loaded.config.trainer.model.name, inputs=inputs, rate=RATE, seconds=SECONDS
    )
