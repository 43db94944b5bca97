from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live

from everloop.demo.measure import measure
from everloop.demo.report import write
from everloop.demo.screen import Lines, Panel, Rates, Stage, View, screen
from everloop.figures import Report
from tests.demo.made import happened


class Tags(HTMLParser):
    """Counts tags, and notes whatever a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href") and value and value[0] != "#"]


def test_the_report_is_one_page_that_loads_nothing(tmp_path: Path) -> None:
    run = happened()
    found = measure(run)
    page, document = write(tmp_path, run, found)
    tags = Tags()
    text = page.read_text()
    tags.feed(text)
    assert tags.seen.count("svg") == 4
    assert tags.loaded == []
    assert "Every figure is met." in text
    assert "$" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    assert msgspec.json.decode(document.read_bytes(), type=Report) == found


def test_the_report_names_what_is_not_met(tmp_path: Path) -> None:
    run = happened(versions=3, log="a<b")
    page, _ = write(tmp_path, run, measure(run))
    text = page.read_text()
    assert "Not met: swaps." in text
    assert "a&lt;b" in text and "a<b" not in text


def test_a_report_of_nothing_can_be_written(tmp_path: Path) -> None:
    run = happened(versions=0, rows=0)
    write(tmp_path, run, measure(run))


def test_without_a_terminal_the_screen_is_plain_lines() -> None:
    output = io.StringIO()
    with screen(output) as shows:
        assert isinstance(shows, Lines)
        shows.say("kafka restarting")
        shows.show(View([Stage("asked", 5, "slates")], [("version", "7")]))
        shows.show(View([Stage("asked", 9, "slates")], [("version", "8")]))
    lines = output.getvalue().splitlines()
    assert lines == ["kafka restarting", "asked 5 (0/s)  version 7"]


def test_rates_are_taken_over_the_last_looks() -> None:
    rates = Rates(looks=3)
    for second in range(6):
        found = rates.add(float(second), [Stage("asked", second * 10, "")])
    assert found == {"asked": 10.0}


def test_on_a_terminal_the_screen_is_one_table_with_the_last_events_under_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
    with Live(console=console, auto_refresh=False) as live:
        panel = Panel(live, events=2)
        for event in ("one", "two", "three"):
            panel.say(event)
        panel.show(View([Stage("asked", 12_345, "of 20,000 slates")], [("version", "7")]))
    last = console.export_text().split("stage")[-1]
    assert "12,345" in last and "of 20,000 slates" in last and "version" in last
    assert "two" in last and "three" in last and "one" not in last
