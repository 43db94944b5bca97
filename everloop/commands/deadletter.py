"""`everloop deadletter list|replay`: what the join refused, and feeding it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from everloop.commands.options import Data, File, Json, print_json, print_table
from everloop.session import open_session
from feedback.clock import SECOND
from feedback.errors import UsageError
from feedback.settings import KafkaSettings

Kafka = Annotated[str, typer.Option("--kafka", metavar="HOST:PORT", help="Broker, where it is not the configured one.")]
Reason = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; may be given again.")]
Offset = Annotated[list[int] | None, typer.Option("--offset", help="Only this letter; may be given again.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    letters = typer.Typer(help="Events that the join refused.", no_args_is_help=True)
    letters.command("list")(show)
    letters.command("replay")(replay)
    app.add_typer(letters, name="deadletter")


def show(
    data: Data = None,
    config: File = None,
    kafka: Kafka = "",
    reason: Reason = None,
    offset: Offset = None,
    limit: Annotated[int, typer.Option(min=0, help="The newest ones only; 0: all.")] = 50,
    as_json: Json = False,
) -> None:
    """List refused events: where each stood, why it was refused, and its bytes."""
    from streams.deadletters import list_

    found = list_(_kafka(data, config, kafka), reasons=reason or (), offsets=offset or (), limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            str(each.offset),
            datetime.fromtimestamp(each.letter.time / SECOND, UTC).isoformat(timespec="seconds"),
            f"{each.letter.topic}-{each.letter.partition}@{each.letter.offset}",
            each.letter.reason,
            each.letter.detail,
        ]
        for each in found
    ]
    print_table(["letter", "refused", "from", "reason", "detail"], rows)


def replay(
    data: Data = None,
    config: File = None,
    kafka: Kafka = "",
    reason: Reason = None,
    offset: Offset = None,
    everything: Annotated[bool, typer.Option("--all", help="Feed every letter again.")] = False,
    as_json: Json = False,
) -> None:
    """Feed refused events again, byte for byte. What is still wrong is refused again; what was taught meanwhile is not taught twice."""
    from streams.deadletters import list_
    from streams.deadletters import replay as feed

    if not (reason or offset or everything):
        raise UsageError("deadletter replay: say which: --reason, --offset or --all")
    settings = _kafka(data, config, kafka)
    fed = feed(settings, list_(settings, reasons=reason or (), offsets=offset or ()))
    if as_json:
        print_json({"fed": fed.total(), "reasons": dict(fed)})
    else:
        print(", ".join(f"{count} × {word}" for word, count in fed.most_common()) or "no such letter")


def _kafka(data: Data, config: File, bootstrap: str) -> KafkaSettings:
    session = open_session(data, config, flags={"kafka.bootstrap": bootstrap} if bootstrap else None)
    return session.loaded.config.kafka
