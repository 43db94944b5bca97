"""`everloop demo`: every part, a real log, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.commands.options import Data, Json, print_json

LogName = Annotated[str, typer.Option("--log", metavar="LOG", help="`movielens`, or a CSV, JSONL or Parquet file.")]
MappingFile = Annotated[
    str, typer.Option("--mapping", metavar="FILE", help="What the log's columns are; `news` is shipped.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    log: LogName = "movielens",
    mapping: MappingFile = "",
    limit: Annotated[
        int | None, typer.Option(min=0, help="Slates; 0: all. Default: all of MovieLens, 20,000 of another log.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Seconds of the log in a second; 0: so that the replay takes --replay-s.")
    ] = 0.0,
    replay_s: Annotated[float, typer.Option("--replay-s", min=1, help="How long the replay should take, s.")] = 200.0,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay a log through every part of the loop on this machine; ends with a report and, if all went well, status 0."""
    import os

    from everloop.demo.run import DemoSettings, demo
    from everloop.folders import default_data

    folder = data or Path(default_data(os.environ)) / "demo"
    done = demo(DemoSettings(data=folder, log=log, mapping=mapping, limit=limit, speed=speed, replay_s=replay_s))
    if as_json:
        print_json(done.report)
    else:
        from everloop.commands.options import print_table
        from everloop.demo.report import shown

        print_table(["figure", "value", "unit"], [[each.name, shown(each), each.unit] for each in done.report.figures])
        print(f"report: {done.page}")
    raise typer.Exit(done.status)
