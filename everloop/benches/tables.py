"""`everloop bench freshness-tables`: what a table of ten million rows does to freshness, beside one of a hundred thousand.

Two loops, one after the other, alike but for the rows that their model begins with. Readers come from all over the table, so that
what they look up lies anywhere in it, and each loop admits new readers, items and pairs of them all the while.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from everloop.benches import Options
from everloop.benches.freshness import measured
from everloop.benches.whole import Whole, whole
from everloop.figures import Report, figure, report
from everloop.session import Session
from feedback.errors import UnavailableError

SIZES: Final = (100_000, 10_000_000)
"""Rows before the first reader comes: half readers, half items."""
SECONDS: Final = 180.0
RATE: Final = 50.0
FRESH: Final = 0.2
"""Share of the requests that bring a new reader and a new item."""
_WARM_S: Final = 20.0
_VERSION_S: Final = 60.0
"""Time between two bases, and between two checkpoints: swaps are in the figures of both."""

SETTINGS: Final[dict[str, Any]] = {
    "trainer.versions.every_s": _VERSION_S,
    "trainer.checkpoints.every_s": _VERSION_S,
    "trainer.model.slots.room": 0.25,
    "trainer.gate.enabled": False,
}
"""A base with room for a quarter more rows than are in use: twice as many, the default, is memory that a large table lacks. No gate:
it would find that rows which were made up know nothing, and stop the deltas."""

_HOLDERS: Final = ("trainer", "model-server")

Found = dict[str, tuple[str, float]]


def run(options: Options) -> Report:
    """Measure both, `options.runs` times, taking turns."""
    return tables(options.runs, SIZES, SECONDS)


def tables(runs: int, sizes: tuple[int, int], seconds: float) -> Report:
    """Freshness with the larger table over that with the smaller one, and both by themselves."""
    found: dict[str, tuple[str, list[float]]] = {}
    for number in range(runs):
        small, large = (_measure(rows, seconds, seed=number + 1) for rows in sizes)
        ratios = {
            f"table_{_short(sizes[1])}_{q}_ratio": ("", large[f"freshness_{q}_s"][1] / small[f"freshness_{q}_s"][1])
            for q in ("p50", "p99")
        }
        named = {
            f"{_short(rows)}_{name}": value
            for rows, each in zip(sizes, (small, large), strict=True)
            for name, value in each.items()
        }
        for name, (unit, value) in {**ratios, **named}.items():
            found.setdefault(name, (unit, []))[1].append(value)
    return report("freshness-tables", [figure(name, unit, values) for name, (unit, values) in found.items()])


def _measure(rows: int, seconds: float, *, seed: int) -> Found:
    _say(f"run {seed}: a table of {rows:,} rows is made")
    with whole(SETTINGS, begin=lambda session: _fill(session, rows), ready_s=600.0) as loop:
        who = {"users": rows // 2, "items": rows // 2, "fresh": FRESH}
        _say(f"run {seed}: readers come for {_WARM_S + seconds:g} s")
        found = measured(loop, rate=RATE, warm_s=_WARM_S, seconds=seconds, seed=seed, **who) | _memory(loop)
    _say(f"run {seed}: " + ", ".join(f"{name} {value:.3g}" for name, (_, value) in found.items()))
    return found


def _memory(loop: Whole) -> Found:
    """The most memory that the parts with a table in them have held, where the system tells (Linux)."""
    found: Found = {}
    for name, part in loop.supervisor.snapshot()["parts"].items():
        status = Path(f"/proc/{part['pid']}/status")
        if name in _HOLDERS and status.is_file():
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            found[f"{name.replace('-', '_')}_memory_gib"] = ("GiB", int(lines["VmHWM"].split()[0]) / 2**20)
    return found


def _fill(session: Session, rows: int) -> None:
    """Write the checkpoint and the version that the loop begins with, in a process that gives its memory back."""
    config = session.loaded.config
    order = {
        "data": str(session.folders.root),
        "features": config.features,
        "settings": config.trainer,
        "rows": rows,
        "prefixes": {"user": "u", "item": "i"},
    }
    done = subprocess.run(
        [sys.executable, "-m", "trainer.fill", msgspec.json.encode(order).decode()],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"a table of {rows:,} rows: {done.stderr.strip()[-500:]}")


def _short(rows: int) -> str:
    return f"{rows // 1_000_000}m" if rows >= 1_000_000 else f"{rows // 1000}k"


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
