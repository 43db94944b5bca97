"""The report's plots, as SVG text that stands in the page itself."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from everloop.demo.freshness import freshness_s
from everloop.demo.measure import Happened
from everloop.demo.progress import curve

_MODEL, _BASE, _GREY, _BAD = "#1b6ca8", "#b0603a", "#8a8f98", "#b3261e"
_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "everloop",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def plots(happened: Happened) -> list[tuple[str, str, str]]:
    """Every plot: its title, what it shows in a sentence, and its SVG."""
    with matplotlib.rc_context(_STYLE):
        return [
            (
                "Telling clicks apart",
                "AUC of the score that the model gave each impression before it learned from it, on settled labels; beside it "
                "each item's running click rate, known with the same delay. Thin: each fortieth of the log by itself.",
                _svg(_auc(happened)),
            ),
            (
                "Freshness",
                "From the moment an outcome was sent to the first answer of a model that had learned from it, of the outcomes "
                "that the deltas name.",
                _svg(_freshness(happened)),
            ),
            (
                "Versions",
                "Which version answered when, and what was started again meanwhile. Each step is a swap under load.",
                _svg(_versions(happened)),
            ),
            (
                "Answers",
                "How long the gateway took to answer, as its client saw it; and answers per second by who gave them.",
                _svg(_answers(happened)),
            ),
        ]


def _auc(happened: Happened) -> Figure:
    figure, axes = _canvas()
    for name, score, colour in (("model", "score", _MODEL), ("item's click rate", "baseline", _BASE)):
        found = curve(happened.rows, score)
        axes.plot(found.rows, found.total, color=colour, label=name)
        axes.plot(found.rows, found.recent, color=colour, alpha=0.35, linewidth=0.8)
    axes.set(xlabel="settled impressions", ylabel="AUC")
    axes.legend(loc="best")
    return figure


def _freshness(happened: Happened) -> Figure:
    figure, axes = _canvas()
    found = freshness_s(happened.learned, happened.served)
    found = found[found > 0]
    if len(found):
        low, high = math.floor(math.log10(found.min())), math.ceil(math.log10(found.max()))
        axes.hist(found, bins=np.logspace(low, max(high, low + 1), 60), color=_MODEL)
        axes.axvline(float(np.median(found)), color=_BASE, label=f"median {np.median(found):.2f} s")
        axes.legend()
    axes.set(xscale="log", xlabel="seconds", ylabel="outcomes")
    return figure


def _versions(happened: Happened) -> Figure:
    figure, axes = _canvas()
    served = sorted(happened.served, key=lambda each: each.sent_time)
    times = [(each.sent_time - happened.begun_us) / 1e6 for each in served]
    # Tens of thousands of points: as a picture inside the SVG they stay small.
    axes.plot(
        times, [each.version for each in served], ".", markersize=2, color=_MODEL, label="answered", rasterized=True
    )
    exported = [event for event in happened.events if event.event == "exported"]
    axes.plot(
        [(each.time - happened.begun_us) / 1e6 for each in exported],
        [each.version for each in exported],
        "|",
        color=_GREY,
        markersize=9,
        label="exported",
    )
    for part, changes in happened.parts.items():
        for moment, state in changes:
            if state == "restarting" and moment >= happened.begun_us:
                at = (moment - happened.begun_us) / 1e6
                axes.axvline(at, color=_BAD, linewidth=0.8)
                axes.annotate(part, (at, axes.get_ylim()[1]), color=_BAD, fontsize=8, rotation=90, va="top", ha="right")
    axes.set(xlabel="seconds since the replay began", ylabel="version (0: fallback)")
    axes.legend(loc="upper left")
    return figure


def _answers(happened: Happened) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = np.array(happened.tally.latencies_s) * 1e3
    if len(found):
        left.hist(np.clip(found, None, np.quantile(found, 0.995)), bins=60, color=_MODEL)
    left.set(xlabel="milliseconds", ylabel="answers")
    for name, fallback, colour in (("model", False, _MODEL), ("fallback", True, _BAD)):
        seconds = Counter(
            int((each.sent_time - happened.begun_us) / 1e6)
            for each in happened.served
            if (not each.version) == fallback
        )
        if seconds:
            span = range(min(seconds), max(seconds) + 1)
            right.plot(list(span), [seconds[each] for each in span], color=colour, label=name)
    right.set(xlabel="seconds since the replay began", ylabel="answers per second")
    right.set_ylim(bottom=0)
    if happened.served:
        right.legend()
    return figure


def _canvas() -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    text = buffer.getvalue()
    # In a page, an SVG element stands without the XML prologue, and scales with its container.
    text = text[text.index("<svg") :]
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"',
        _scaled,
        text,
        count=1,
    )


def _scaled(found: re.Match[str]) -> str:
    return "<svg " + "".join(part or "" for part in found.groups()) + ' width="100%"'
