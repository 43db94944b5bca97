"""Figures: what `everloop bench`, `demo` and `experiment` print, as a table and as one JSON object.

A figure is the median of its runs. A peer's figure is measured beside ours in the same call and given as a ratio.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata

from msgspec import Struct, field


class Figure(Struct, frozen=True, kw_only=True):
    """One measured number."""

    name: str
    """The name that the issue or document gives it."""
    value: float
    """Median of `runs`."""
    unit: str
    """Unit, e.g. `s`, `1/s`, `ms`, `bytes`; empty for a count or ratio."""
    runs: list[float]
    """Every run's value, in the order of the runs."""


class Peer(Struct, frozen=True, kw_only=True):
    """The same figure of another system, measured in the same call on the same input."""

    name: str
    version: str
    figure: str
    """Which of our figures it stands beside."""
    value: float
    unit: str
    ratio: float
    """Ours over theirs (for times: theirs over ours), so that above 1 is better."""


class Machine(Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cores: int
    memory_gib: float
    python: str
    packages: dict[str, str]


class Report(Struct, frozen=True, kw_only=True):
    """All figures of one bench."""

    bench: str
    at: str
    """UTC, ISO 8601."""
    machine: Machine
    figures: list[Figure]
    peers: list[Peer] = field(default_factory=list)

    def value(self, name: str) -> float:
        """The value of one figure. Raises KeyError if it was not measured."""
        for figure in self.figures:
            if figure.name == name:
                return figure.value
        raise KeyError(name)


PACKAGES = ("tensorflow", "faust-streaming", "aiokafka", "kafka-python", "redis", "msgspec", "everloop")


def figure(name: str, unit: str, runs: Iterable[float]) -> Figure:
    """Make a figure of its runs: the value is their median."""
    values = [float(run) for run in runs]
    return Figure(name=name, value=statistics.median(values), unit=unit, runs=values)


def report(bench: str, figures: Iterable[Figure], peers: Iterable[Peer] = ()) -> Report:
    """Put figures together with the time and the machine."""
    return Report(
        bench=bench,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        figures=list(figures),
        peers=list(peers),
    )


def machine() -> Machine:
    """Describe this machine: usable cores, memory, Python and the packages that matter."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30, 1),
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
