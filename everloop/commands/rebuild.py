"""`everloop replay-version N`: rebuild a version from the topics and the checkpoint that it began at, and compare."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay-version")(replay_version)


def replay_version(
    version: Annotated[int, typer.Argument(min=1, help="The version to rebuild.")],
    data: Data = None,
    config: File = None,
    as_json: Json = False,
) -> None:
    """Rebuild a version and compare digests; changes nothing. Exit status 1 when it came out different."""
    # TensorFlow else tells at length which accelerators it did not find.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from everloop.broker import reach
    from trainer.replay import replay_version as rebuild

    session = open_session(data, config)
    settings = session.loaded.config
    found = rebuild(
        version,
        kafka=reach(session),
        features=settings.features,
        settings=settings.trainer,
        data=session.folders.root,
    )
    if as_json:
        print_json(found.figures())
    else:
        print_table(["what", "value"], [[name, str(value)] for name, value in found.figures().items()])
    raise typer.Exit(found.status)
