"""`everloop experiment NAME`: ask the newsroom, where the truth is known, and print the figures as a table or as one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.commands.options import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("experiment")(experiment)


def experiment(
    name: Annotated[str, typer.Argument(help="What to ask, e.g. world or fit.")],
    seeds: Annotated[int, typer.Option(min=1, help="Worlds of the same kind; a figure is the median over them.")] = 5,
    scale: Annotated[
        float, typer.Option(min=0, help="Readers per second relative to the experiment's own; 1 is what is reported.")
    ] = 1.0,
    log: Annotated[
        Path | None, typer.Option(metavar="PATH", help="fit: a news log in Parquet to measure in the same way.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the plots there, as SVG files.")] = None,
    as_json: Json = False,
) -> None:
    """Run one experiment in the simulated newsroom."""
    import msgspec

    from everloop.experiments import Options
    from everloop.experiments import experiment as ask
    from everloop.tables import print_report

    report = ask(name, Options(seeds=seeds, scale=scale, log=log, plots=plots))
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_report(report)
