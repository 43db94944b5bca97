"""A report of figures as a person reads it."""

from __future__ import annotations

import math

from everloop.commands.options import print_table
from everloop.figures import Report


def print_report(report: Report) -> None:
    """Print a report: its figures, the peers if there are any, and where it was measured."""
    print(f"{report.bench}, {report.at}")
    print_table(
        ["figure", "value", "unit", "runs"],
        [[f.name, number(f.value), f.unit, " ".join(map(number, f.runs))] for f in report.figures],
    )
    if report.peers:
        print_table(
            ["peer", "version", "figure", "value", "unit", "ratio"],
            [[p.name, p.version, p.figure, number(p.value), p.unit, number(p.ratio)] for p in report.peers],
        )
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    print(f"{machine.cores} cores, {machine.memory_gib:g} GiB, Python {machine.python}; {packages}")


def number(value: float) -> str:
    """A number with four significant digits, thousands separated."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
