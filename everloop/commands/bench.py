"""`everloop bench NAME`: measure, and print the figures as a table or as one JSON object."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from everloop.commands.options import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    name: Annotated[str, typer.Argument(help="join, train, serve, freshness, freshness-tables, swap, poison or k8s.")],
    runs: Annotated[int, typer.Option(min=1, help="Runs of each measurement; the value is their median.")] = 3,
    peers: Annotated[bool, typer.Option(help="Measure the peers in the same call.")] = True,
    log: Annotated[str, typer.Option("--log", metavar="LOG", help="train, poison: the log to measure on.")] = "",
    mapping: Annotated[str, typer.Option("--mapping", metavar="FILE", help="What the log's columns are.")] = "",
    as_json: Json = False,
) -> None:
    """Measure one part, or the whole loop, on this machine."""
    import msgspec

    from everloop.benches import Options
    from everloop.benches import bench as measure
    from everloop.tables import print_report

    # As Ctrl-C does: what the bench has started ends with it.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        report = measure(name, Options(runs=runs, peers=peers, log=log, mapping=mapping))
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_report(report)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
