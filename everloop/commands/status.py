"""`everloop status`: each part's state, process and ports, and what the parts say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.folders import held
from everloop.runtime.ports import fetch
from everloop.runtime.supervise import described, read
from everloop.session import open_session

REPORTS = {
    "gateway": "/v1/status",
    "streams": "/ledger",
    "trainer": "/status",
    "follower": "/status",
    "steer": "/status",
}
"""Where each part tells of itself, as JSON."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Say what runs in this data folder, and how fresh it is; exit status 1 when nothing runs."""
    folders = open_session(data, config).folders
    found = read(folders) if held(folders) else {}
    reports = _reports(found.get("parts", {}))
    if as_json:
        print_json({"up": bool(found), "data": str(folders.root), **found, "reports": reports})
    elif not found:
        print(f"nothing is up in {folders.root}")
    else:
        print(f"up in {folders.root} since {found['since']}, pid {found['pid']}")
        columns = ["part", "state", "pid", "restarts", "ports", "detail"]
        print_table(columns, [_row(*each) for each in found["parts"].items()])
        print("\n".join([*described(found["addresses"]), *_freshness(reports.get("gateway", {}))]))
    if not found:
        raise typer.Exit(1)


def _reports(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Ask the parts that are ready; one that does not answer, or only with a key, is left out."""
    reports = {}
    for name, path in REPORTS.items():
        port = parts.get(name, {}).get("ports", {}).get("http", 0)
        if port and parts[name]["state"] == "ready" and (body := fetch(port, path)) is not None:
            reports[name] = msgspec.json.decode(body, type=dict[str, Any])
    return reports


def _freshness(gateway: Mapping[str, Any]) -> Iterator[str]:
    if gateway:
        yield f"{'live':<12}version {gateway['version']}, sequence {gateway['sequence']}, epoch {gateway['epoch']}"
        ages = gateway["freshness"]
        known = f"p50 {ages['p50_s']:.3g} s, p99 {ages['p99_s']:.3g} s" if ages.get("count") else "not known yet"
        yield f"{'freshness':<12}{known}"


def _row(name: str, part: Mapping[str, Any]) -> list[str]:
    return [
        name,
        part["state"],
        str(part["pid"] or ""),
        str(part["restarts"]),
        ", ".join(f"{use} {port}" for use, port in part["ports"].items()),
        part["detail"],
    ]
