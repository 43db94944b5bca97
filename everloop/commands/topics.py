"""`everloop topics create`."""

from __future__ import annotations

import typer

from everloop.commands.options import Data, File, Json, print_json
from everloop.session import open_session


def register(app: typer.Typer) -> None:
    """Add the group."""
    topics = typer.Typer(help="Kafka topics of the loop.", no_args_is_help=True)
    topics.command("create")(create)
    app.add_typer(topics, name="topics")


def create(data: Data = None, config: File = None, kafka: str = "", as_json: Json = False) -> None:
    """Create the topics that do not exist yet; changes nothing the second time."""
    from everloop.broker import reach
    from feedback.topics import create_topics

    session = open_session(data, config, flags={"kafka.bootstrap": kafka} if kafka else None)
    settings = reach(session)
    created = create_topics(settings)
    if as_json:
        print_json({"bootstrap": settings.bootstrap, "created": created})
    else:
        print(f"created: {', '.join(created)}" if created else "all topics exist")
