"""Make Grafana's JSON of the rows: `make docs` writes it into dashboard/everloop.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from k8s.monitoring.panels import ROWS, Panel

_COLUMNS, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def text() -> str:
    """Return the dashboard, as a file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "uid": "everloop",
        "title": "everloop",
        "tags": ["everloop"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_sources(), _namespaces()]},
        "annotations": {"list": [_firing()]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, y, _COLUMNS, 1),
        }
        width = _COLUMNS // len(row.panels)
        for at, panel in enumerate(row.panels):
            number += 1
            yield _graph(number, panel, _place(at * width, y + 1, width, _HEIGHT))
        y += 1 + _HEIGHT


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    shown = {"thresholdsStyle": {"mode": "off" if panel.limit is None else "line"}, "fillOpacity": 8}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": shown,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for at, (legend, query) in enumerate(panel.asks)
        ],
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _sources() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _namespaces() -> dict[str, Any]:
    query = "label_values(everloop_recommendations_total, namespace)"
    return {"name": "namespace", "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2, "sort": 1}


def _firing() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{namespace="$namespace", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }
