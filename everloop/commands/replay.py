"""`everloop replay LOG`: a log through the loop that runs."""

from __future__ import annotations

import sys
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Annotated

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import Session, open_session
from feedback.errors import UsageError

if TYPE_CHECKING:
    from everloop.replay.tally import Tally


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    log: Annotated[str, typer.Argument(metavar="LOG", help="`movielens`, or a CSV, JSONL or Parquet file.")],
    mapping: Annotated[
        str, typer.Option("--mapping", metavar="FILE", help="What the log's columns are. Default: LOG.toml beside it.")
    ] = "",
    speed: Annotated[
        float, typer.Option(min=0, help="Seconds of the log in a second; 0: as fast as the loop answers.")
    ] = 60.0,
    limit: Annotated[int, typer.Option(min=0, help="Slates at most; 0: all.")] = 0,
    gateway: Annotated[str, typer.Option(metavar="URL", help="Default: that of the loop in the data folder.")] = "",
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Default: that of the loop.")] = "",
    key: Annotated[
        str, typer.Option(envvar="EVERLOOP_KEY", help="API key with scope replay, where keys are configured.")
    ] = "",
    data: Data = None,
    config: File = None,
    as_json: Json = False,
) -> None:
    """Ask the gateway what the log's readers were asked, send what they did, with the log's own times.

    Exit status 1: a request was not answered.
    """
    from everloop.logs.catalogue import find
    from everloop.replay.run import ReplaySettings
    from everloop.replay.run import replay as play

    session = open_session(data, config)
    found = find(log, mapping)
    settings = session.loaded.config
    if settings.gateway.ticks:
        raise UsageError(
            "gateway.ticks is true: its ticks carry the wall's time, and a log of the past would come behind them; set "
            "gateway.ticks = false in everloop.toml and start the loop again"
        )
    addresses = _addresses(session)
    asked = ReplaySettings(
        gateway=gateway or _needed(addresses, "gateway", "--gateway URL", session),
        key=key,
        speed=speed,
        window_s=max(found.mapping.window_s, settings.streams.join.window_s),
        lateness_s=max(settings.streams.join.lateness_s, 1e-3),
    )
    reached = changed(settings.kafka, bootstrap=kafka or addresses.get("kafka") or settings.kafka.bootstrap)
    tally = play(found.slates(limit=limit), kafka=reached, settings=asked, watch=_watch)
    summary = tally.summary()
    if as_json:
        print_json(summary)
    else:
        print_table(["what", "how much"], [[name, str(value)] for name, value in summary.items()])
    if tally.failed_requests:
        raise typer.Exit(1)


def _watch(tally: Tally) -> None:
    """Say how far it is, on one line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r{tally.requests:,} answers, {tally.outcomes:,} outcomes ", end="", file=sys.stderr)


def _addresses(session: Session) -> dict[str, str]:
    from everloop.folders import held
    from everloop.runtime.supervise import read

    return dict(read(session.folders).get("addresses", {})) if held(session.folders) else {}


def _needed(addresses: dict[str, str], name: str, option: str, session: Session) -> str:
    if name not in addresses:
        raise UsageError(f"nothing is up in {session.folders.root}: start it with `everloop up`, or say {option}")
    return addresses[name]
