"""Each alert has a page that says what to do, with commands that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from everloop.cli import application
from tests.monitoring.kit import RUNBOOKS, alerts

CONTENTS = RUNBOOKS / "README.md"
PAGES = sorted(set(RUNBOOKS.glob("*.md")) - {CONTENTS})
SECTIONS = ["For readers", "Look first", "Likely causes", "Do", "It is over when"]
_BLOCK = re.compile(r"```\n(.*?)```", re.DOTALL)
_PLACE = re.compile(r"^[A-Z_]+$")


def page_of(alert: dict[str, Any]) -> str:
    url: str = alert["annotations"]["runbook_url"]
    return url.partition("/docs/runbooks/")[2]


def commands(page: Path) -> list[str]:
    """What the page tells its reader to type, in blocks and in the text."""
    text = page.read_text()
    blocks = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    inline = re.findall(r"`(everloop [^`]+)`", _BLOCK.sub("", text))
    return [" ".join(each.split()) for each in (*blocks, *inline)]


def parse(command: str) -> None:
    """Parse a command as the command line does; nothing is run.

    Raises:
        click.UsageError: there is no such command, option or argument.
    """
    words = shlex.split(command)[1:]
    # A word in capitals stands for what the reader puts there: a number where the command takes one.
    words = ["7" if word == "VERSION" else "some" if _PLACE.match(word) else word for word in words]
    at: Any = typer.main.get_command(application())
    context = click.Context(at, info_name="everloop")
    while hasattr(at, "commands"):
        _, at, words = at.resolve_command(context, words)
    at.make_context(at.name, words, parent=context)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_grave_it_is_and_names_a_page_that_names_it(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert alert["alert"] in (RUNBOOKS / page_of(alert)).read_text().splitlines()[0]


def test_there_is_no_page_without_an_alert() -> None:
    assert {page.name for page in PAGES} == {page_of(alert) for alert in alerts()}


def test_the_table_of_contents_says_what_the_rules_say() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(([^)]+)\) \| (yes|no) \| (.+) \|$", CONTENTS.read_text(), re.MULTILINE)
    assert rows == [
        (
            alert["alert"],
            page_of(alert),
            "yes" if alert["labels"]["severity"] == "critical" else "no",
            alert["annotations"]["summary"],
        )
        for alert in alerts()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    for section in text.split("\n## ")[1:]:
        assert len(section.split()) >= 8, f"{page.name}: {section.splitlines()[0]} says too little"
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / link).is_file(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_pages_commands_are_ones_that_there_are(page: Path) -> None:
    found = commands(page)
    assert found
    for command in found:
        parse(command)


@pytest.mark.parametrize(
    "command", ["everloop stat", "everloop status --why", "everloop k8s logs", "everloop resume --x"]
)
def test_a_command_that_there_is_not_is_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        parse(command)
