"""`everloop train --from LOG`: a first version from a log, so that a loop does not start from nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from everloop.commands.options import Data, File, Json, print_json
from everloop.figures import Report, figure, report
from everloop.session import Session, open_session
from everloop.tables import print_report
from feedback.errors import UsageError

if TYPE_CHECKING:
    from everloop.logs.mapping import Mapping
    from trainer.bootstrap import FromLog


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    log: Annotated[str, typer.Option("--from", metavar="LOG", help="`movielens`, or a CSV, JSONL or Parquet file.")],
    mapping: Annotated[
        str, typer.Option("--mapping", metavar="FILE", help="What the log's columns are. Default: LOG.toml beside it.")
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="Slates at most; 0: all.")] = 0,
    write: Annotated[bool, typer.Option(help="Write a checkpoint and a version; else only measure.")] = True,
    data: Data = None,
    config: File = None,
    as_json: Json = False,
) -> None:
    """Learn a log in the order of its time, each slate scored whole before its labels are learned; print the figures."""
    # TensorFlow else tells at length which accelerators it did not find.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from everloop.logs.catalogue import find
    from everloop.logs.samples import samples
    from trainer.bootstrap import train_from
    from trainer.interpreter import prepare

    found = find(log, mapping)
    session = _session(data, config, found.mapping, write=write)
    settings = session.loaded.config
    prepare()
    result = train_from(
        samples(found, limit=limit),
        features=settings.features,
        settings=settings.trainer,
        data=session.folders.root,
        write=write,
        say=_say,
    )
    told = _report(f"{log} --mapping {mapping}" if log == "movielens" and mapping else found.mapping.name, result)
    if as_json:
        print_json(msgspec.to_builtins(told))
    else:
        print_report(told)


def _report(log: str, result: FromLog) -> Report:
    """The numbers as a report; what has words in it is said beside it."""
    if result.version:
        _say_line(f"line {result.line}: wrote version {result.version} and checkpoint {result.checkpoint}")
    if result.alarms:
        _say_line(f"the gate would have refused {result.alarms} times, first: {result.first_alarm}")
    units = {"seconds": "s", "rows_per_s": "1/s"}
    numbers = {name: value for name, value in result.figures().items() if not isinstance(value, str)}
    return report(f"train --from {log}", [figure(name, units.get(name, ""), [n]) for name, n in numbers.items()])


def _say_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _session(data: Path | None, config: Path | None, mapping: Mapping, *, write: bool) -> Session:
    """The configuration, completed by what the log's mapping says; written down where there is none yet.

    Raises:
        UsageError: a version is to be written for a configuration that names no features.
    """
    from everloop.demo import profile

    session = open_session(data, config)
    told = {key: value for key, value in profile.base(mapping).items() if not session.loaded.given(key)}
    if write and "features" in told:
        if session.loaded.file is not None:
            raise UsageError(f"{session.loaded.file} names no features, and a version is of those that the loop serves")
        file = session.folders.root / "everloop.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            profile.written(told, f"Written by `everloop train` for the log {mapping.name}."), encoding="utf-8"
        )
        print(f"wrote {file}: what a loop over this log needs to be told", file=sys.stderr)
    return open_session(data, config, flags=told)


def _say(rows: int) -> None:
    """Say how far it is, on one line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r{rows:,} rows ", end="", file=sys.stderr)
