"""report.html, one file that needs nothing else, and report.json."""

from __future__ import annotations

import html
import math
from pathlib import Path
from string import Template

import msgspec

from everloop.demo.measure import Happened, missed
from everloop.demo.plots import plots
from everloop.figures import Figure, Report

PAGE = Path(__file__).with_name("report.html")


def write(folder: Path, happened: Happened, found: Report) -> tuple[Path, Path]:
    """Write both files into a folder; returns their paths."""
    page, document = folder / "report.html", folder / "report.json"
    document.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    page.write_text(render(happened, found), encoding="utf-8")
    return page, document


def render(happened: Happened, found: Report) -> str:
    """The page's text."""
    misses = {target.name: target.wanted for target, _ in missed(found)}
    machine = found.machine
    words = ", ".join(f"{html.escape(name)} {html.escape(version)}" for name, version in machine.packages.items())
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        log=html.escape(happened.log),
        at=html.escape(found.at),
        machine=f"{machine.cores} cores, {machine.memory_gib:g} GiB, Python {html.escape(machine.python)}; {words}",
        verdict="Every figure is met." if not misses else f"Not met: {', '.join(misses)}.",
        verdict_class="met" if not misses else "missed",
        figures="\n".join(_row(each, misses.get(each.name, "")) for each in found.figures),
        plots="\n".join(
            f"<section><h2>{html.escape(title)}</h2><p>{html.escape(words)}</p>{svg}</section>"
            for title, words, svg in plots(happened)
        ),
    )


def shown(figure: Figure) -> str:
    """A figure's value as people read it."""
    value = figure.value
    if math.isnan(value):
        return "none"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _row(figure: Figure, wanted: str) -> str:
    note = f"wanted: {html.escape(wanted)}" if wanted else ""
    kind = ' class="missed"' if wanted else ""
    unit = html.escape(figure.unit)
    return f"<tr{kind}><td><code>{figure.name}</code></td><td>{shown(figure)}</td><td>{unit}</td><td>{note}</td></tr>"
