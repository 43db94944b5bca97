"""`everloop status`: each part's state, process and ports."""

from __future__ import annotations

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.folders import held
from everloop.runtime.supervise import described, read
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Say what runs in this data folder; exit status 1 when nothing does."""
    folders = open_session(data, config).folders
    found = read(folders) if held(folders) else {}
    if as_json:
        print_json({"up": bool(found), "data": str(folders.root), **found})
    elif not found:
        print(f"nothing is up in {folders.root}")
    else:
        print(f"up in {folders.root} since {found['since']}, pid {found['pid']}")
        print_table(
            ["part", "state", "pid", "restarts", "ports", "detail"], [_row(*each) for each in found["parts"].items()]
        )
        print("\n".join(described(found["addresses"])))
    if not found:
        raise typer.Exit(1)


def _row(name: str, part: dict[str, object]) -> list[str]:
    ports = part["ports"]
    assert isinstance(ports, dict)
    return [
        name,
        str(part["state"]),
        str(part["pid"] or ""),
        str(part["restarts"]),
        ", ".join(f"{use} {port}" for use, port in ports.items()),
        str(part["detail"]),
    ]
