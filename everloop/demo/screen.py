"""What a person sees while the demo runs: one live table on a terminal, plain lines elsewhere. Written to standard error."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Stage:
    """One line of the table: how much has passed a stage."""

    name: str
    count: int
    of: str
    """What is counted."""


@dataclass(frozen=True)
class View:
    """All that is shown at one moment."""

    stages: list[Stage]
    facts: list[tuple[str, str]]
    """Name and value: freshness, version, AUC, …"""


class Screen(Protocol):
    """Where a demo shows itself."""

    def say(self, line: str) -> None:
        """Show one event."""

    def show(self, view: View) -> None:
        """Show how things stand."""


class Rates:
    """Counts per second, over the last few looks."""

    def __init__(self, looks: int = 6) -> None:
        self._past: deque[tuple[float, dict[str, int]]] = deque(maxlen=looks)

    def add(self, now_s: float, stages: list[Stage]) -> dict[str, float]:
        """Take a look at some stages; returns the rate of each, 1/s."""
        counts = {stage.name: stage.count for stage in stages}
        self._past.append((now_s, counts))
        then_s, before = self._past[0]
        elapsed = now_s - then_s
        return {name: (count - before.get(name, 0)) / elapsed if elapsed else 0.0 for name, count in counts.items()}


class Lines:
    """Plain lines: events as they come, how things stand every few seconds."""

    def __init__(self, output: TextIO, *, every_s: float = 5.0) -> None:
        self._output, self._every = output, every_s
        self._rates, self._last = Rates(), -math.inf

    def say(self, line: str) -> None:
        """Print one event."""
        print(line, file=self._output, flush=True)

    def show(self, view: View) -> None:
        """Print how things stand, if that is long ago."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rates = self._rates.add(now, view.stages)
        stages = [f"{stage.name} {stage.count} ({rates[stage.name]:.0f}/s)" for stage in view.stages]
        self.say("  ".join(stages + [f"{name} {value}" for name, value in view.facts]))


class Panel:
    """One live table, with the last events under it."""

    def __init__(self, live: Live, *, events: int = 8) -> None:
        self._live, self._rates = live, Rates()
        self._events: deque[str] = deque(maxlen=events)
        self._view = View([], [])

    def say(self, line: str) -> None:
        """Add one event."""
        self._events.append(line)
        self._draw()

    def show(self, view: View) -> None:
        """Draw how things stand."""
        self._view = view
        self._draw()

    def _draw(self) -> None:
        view, rates = self._view, self._rates.add(time.monotonic(), self._view.stages)
        stages = Table("stage", "count", "", "per second", box=SIMPLE)
        for column in (1, 3):
            stages.columns[column].justify = "right"
        for stage in view.stages:
            stages.add_row(stage.name, f"{stage.count:,}", stage.of, f"{rates[stage.name]:,.0f}")
        facts = Table(box=None, show_header=False)
        for name, value in view.facts:
            facts.add_row(name, value)
        self._live.update(Group(stages, facts, *map(Text, self._events)), refresh=True)


@contextmanager
def screen(output: TextIO = sys.stderr) -> Iterator[Screen]:
    """Open the screen that fits: a live table on a terminal, plain lines elsewhere."""
    if not output.isatty():
        yield Lines(output)
        return
    console = Console(file=output)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield Panel(live)
