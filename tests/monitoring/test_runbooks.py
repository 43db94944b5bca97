"""Each alert has its page, and each command on a page is one that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from everloop.cli import application
from tests.monitoring.kit import MONITORING, ROOT

PAGES = ROOT / "docs" / "runbooks"


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["spec"]["groups"] for rule in group["rules"] if "alert" in rule]


def commands(group: Any, before: str = "") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        found.add(before + name)
        if hasattr(command, "commands"):
            found |= commands(command, f"{before}{name} ")
    return found


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_has_a_page_that_names_it(alert: dict[str, Any]) -> None:
    page = PAGES / Path(alert["annotations"]["runbook_url"]).name
    assert alert["alert"] in page.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_says_to_type_and_to_read_is_there(page: Path) -> None:
    text, known = page.read_text(encoding="utf-8"), commands(typer.main.get_command(application()))
    for typed in re.findall(r"`everloop ([a-z0-9 -]+)", text):
        words = typed.split(" -")[0].split()
        assert words[0] in known and (len(words) == 1 or " ".join(words[:2]) in known), typed
    for linked in re.findall(r"\]\(([a-z-]+\.md)\)", text):
        assert (PAGES / linked).exists(), linked
