"""`everloop config`: what is in force and where each value came from."""

from __future__ import annotations

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("config")(show)


def show(data: Data = None, config: File = None, as_json: Json = False) -> None:
    """Print every setting in force and where it came from: default, file or environment."""
    session = open_session(data, config)
    table = session.loaded.table()
    if as_json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in table}
        print_json({"data": str(session.folders.root), "file": _file(session.loaded.file), "settings": settings})
        return
    print(f"data folder: {session.folders.root}")
    print(f"file: {_file(session.loaded.file) or 'none'}")
    print_table(["setting", "value", "from"], [list(row) for row in table])


def _file(path: object) -> str:
    return "" if path is None else str(path)
