"""The rules, the dashboard's queries, and which metrics and labels a PromQL expression speaks of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
ADAPTER = ROOT / "k8s" / "adapter"
RUNBOOKS = ROOT / "docs" / "runbooks"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SELECTOR = re.compile(r"\{([^}]*)\}")
_LABELS_OF = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_STRING = re.compile(r'"[^"]*"')
_WORDS = {"and", "or", "unless", "by", "on", "ignoring", "without", "group_left", "group_right", "offset", "bool"}
SCRAPE = {"namespace", "pod", "job", "instance", "container", "endpoint", "le"}
"""Labels that the scrape adds, and a histogram's own."""


def groups() -> list[dict[str, Any]]:
    """The rule groups, as a plain rules file has them."""
    found: list[dict[str, Any]] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
    return found


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for group in groups() for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana gets it."""
    found: dict[str, Any] = json.loads((MONITORING / "dashboard" / "everloop.json").read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Each panel's title and expression."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def adapted() -> Iterator[tuple[str, str]]:
    """Each of the autoscalers' metrics, and the series that the adapter makes it of."""
    rules: dict[str, Any] = yaml.safe_load((ADAPTER / "values.yaml").read_text())["rules"]
    for rule in (*rules["custom"], *rules["external"]):
        yield rule["name"]["as"], rule["seriesQuery"]


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression reads.

    >>> sorted(metrics_in('sum by (a) (rate(x_total{b="c"}[5m])) / on (d) group_left max(y offset 5m) > 1e3'))
    ['x_total', 'y']
    """
    bare = _LABELS_OF.sub(" ", _SELECTOR.sub(" ", re.sub(r"\[[^\]]*\]", " ", _STRING.sub('""', expression))))
    found = set()
    for match in _NAME.finditer(bare):
        word, after = match.group(), bare[match.end() :].lstrip()
        before = bare[match.start() - 1] if match.start() else " "
        aggregates = after.startswith("(") or re.match(r"(by|without)\b", after)
        if not aggregates and word not in _WORDS and not before.isalnum() and before != ".":
            found.add(word)
    return found


def labels_in(expression: str) -> set[str]:
    """The labels that an expression selects or groups by.

    >>> sorted(labels_in('sum by (a) (rate(x_total{b="c", d=~"e"}[5m]))'))
    ['a', 'b', 'd']
    """
    matched = {
        name
        for inside in _SELECTOR.findall(_STRING.sub('""', expression))
        for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)
    }
    grouped = {name.strip() for inside in _LABELS_OF.findall(expression) for name in inside.split(",")}
    return (matched | grouped) - {""}


def matchers_in(expression: str) -> Iterator[tuple[str, str, str]]:
    """Metric, label and value of each equality that an expression asks for.

    >>> list(matchers_in('x{a="b", c=~"d"} + y{e="f"}'))
    [('x', 'a', 'b'), ('y', 'e', 'f')]
    """
    for metric, inside in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)="([^"]*)"', inside):
            yield metric, label, value
