"""`everloop run PART`: one part in this process, as `up` and a container start it."""

from __future__ import annotations

from typing import Annotated

import typer

from everloop.commands.options import Data, File
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", hidden=True)(run)


def run(
    part: Annotated[str, typer.Argument(metavar="PART")],
    data: Data = None,
    config: File = None,
) -> None:
    """Run one part of the loop in this process."""
    from everloop.run import run_part

    raise typer.Exit(run_part(part, open_session(data, config)))
