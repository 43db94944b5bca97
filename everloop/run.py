"""Run one part of the loop in this process: `python -m everloop.run PART`, on one machine as in a container.

Only the standard library and what the part itself needs are imported, so that an image carries no command line. Where
everything is comes from the configuration: everloop.toml, EVERLOOP_… variables, EVERLOOP_DATA.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from everloop.session import Session, open_session
from feedback.errors import ConfigError, EverloopError, UsageError


def topics(session: Session) -> int:
    """Create the topics and end."""
    from feedback.topics import create_topics

    for name in create_topics(session.loaded.config.kafka):
        print(f"created {name}", flush=True)
    return 0


def streams(session: Session) -> int:
    """Join predictions and outcomes into samples; keep the real-time features."""
    from streams.worker import run

    config = session.loaded.config
    return run(
        kafka=config.kafka,
        redis=config.redis,
        settings=config.streams,
        data=session.folders.root,
        worker=config.addresses.replica or socket.gethostname(),
        http_host=config.addresses.host,
        http_port=config.addresses.streams_port,
    )


def trainer(session: Session) -> int:
    """Learn, publish deltas and versions."""
    from trainer.main import run

    config = session.loaded.config
    return run(
        kafka=config.kafka,
        features=config.features,
        settings=config.trainer,
        data=session.folders.root,
        http_host=config.addresses.host,
        http_port=config.addresses.trainer_port,
    )


def gateway(session: Session) -> int:
    """Answer recommendation services."""
    from serving.gateway.main import run

    config = session.loaded.config
    return run(
        kafka=config.kafka,
        redis=config.redis,
        features=config.features,
        settings=config.gateway,
        data=session.folders.root,
        model_server=config.addresses.model_server,
        port=config.addresses.gateway_port,
    )


def follower(session: Session) -> int:
    """Keep a model server fresh."""
    from serving.follower.main import run

    config = session.loaded.config
    return run(
        kafka=config.kafka,
        settings=config.follower,
        data=session.folders.root,
        replica=config.addresses.replica or socket.gethostname(),
        model_server=config.addresses.model_server,
        http_host=config.addresses.host,
        http_port=config.addresses.follower_port,
    )


def steer(session: Session) -> int:
    """Judge canaries, and roll a version back whose answers fail."""
    from everloop.steer.main import run

    config = session.loaded.config
    return run(
        kafka=config.kafka,
        settings=config.steer,
        model=config.trainer.model.name,
        http_port=config.addresses.steer_port,
        http_host=config.addresses.host,
    )


PARTS: dict[str, Callable[[Session], int]] = {
    "topics": topics,
    "streams": streams,
    "trainer": trainer,
    "follower": follower,
    "gateway": gateway,
    "steer": steer,
}
"""Every part that runs as a process of its own, by name."""


def run_part(name: str, session: Session) -> int:
    """Run one part until it is asked to end.

    Raises:
        UsageError: there is no such part.
    """
    if name not in PARTS:
        raise UsageError(f"part = {name!r}: one of {', '.join(PARTS)}")
    session.folders.root.mkdir(parents=True, exist_ok=True)
    return PARTS[name](session)


def main(argv: list[str]) -> int:
    """Run the part that the command line names."""
    if len(argv) != 1:
        print(f"usage: python -m everloop.run {{{','.join(PARTS)}}}", file=sys.stderr)
        return 2
    try:
        return run_part(argv[0], open_session())
    except EverloopError as error:
        print(f"everloop {argv[0]}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError | UsageError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
