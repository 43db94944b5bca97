"""`everloop up`: every part as a process of its own, watched until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from everloop.commands.options import Data, File
from everloop.folders import Folders, held
from everloop.loop import Named, running
from everloop.runtime.parts import Event, State
from everloop.runtime.supervise import Supervisor, described
from everloop.session import Session, open_session
from feedback.errors import UnavailableError, UsageError

Kafka = Annotated[str, typer.Option("--kafka", metavar="HOST:PORT", help="Use this broker instead of starting one.")]
Redis = Annotated[str, typer.Option("--redis", metavar="URL", help="Use this Redis instead of starting one.")]
TfServing = Annotated[
    str,
    typer.Option("--tf-serving", metavar="HOST:PORT", help="Use this TensorFlow Serving instead of the model server."),
]
Only = Annotated[str, typer.Option("--only", metavar="PART,…", help="Start these parts and no others.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return when all is ready; stop it with `everloop down`.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    data: Data = None,
    config: File = None,
    kafka: Kafka = "",
    redis: Redis = "",
    tf_serving: TfServing = "",
    only: Only = "",
    detach: Detach = False,
) -> None:
    """Start every part of the loop on this machine and keep them alive until Ctrl-C."""
    session = open_session(data, config)
    if detach:
        raise typer.Exit(_detached(session, [each for each in sys.argv[1:] if each != "--detach"]))
    named = Named(kafka=kafka, redis=redis, tf_serving=tf_serving, only=tuple(filter(None, only.split(","))))
    with _asked_to_stop() as asked, running(session, named, tell=show) as supervisor:
        _watch(supervisor, asked)


def show(event: Event) -> None:
    """Print one change of state as a line."""
    detail = f"  {event.detail}" if event.detail else ""
    print(f"{datetime.now():%H:%M:%S}  {event.part:<14}{event.state}{detail}", flush=True)


class Asked:
    """How often this process was asked to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.supervisor: Supervisor | None = None

    def __call__(self, *_: object) -> None:
        """Take one signal: the first asks for a clean stop, the second for a quick one."""
        if self.stop.is_set() and self.supervisor is not None:
            self.supervisor.hurry()
        self.stop.set()


@contextmanager
def _asked_to_stop() -> Iterator[Asked]:
    asked = Asked()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, asked)
    yield asked


def _watch(supervisor: Supervisor, asked: Asked) -> None:
    asked.supervisor = supervisor
    announced = False
    while not asked.stop.wait(0.1):
        if failed := supervisor.failed():
            if failed.exit_status == 2:
                raise UsageError(f"{failed.part.name}: {failed.detail}")
            raise UnavailableError(f"{failed.part.name} can't be started: {failed.detail}")
        if not announced and supervisor.ready():
            announced = True
            print("\n".join(["", "ready:", *(f"  {line}" for line in described(supervisor.addresses)), ""]), flush=True)
    print("stopping; press Ctrl-C again to stop at once", flush=True)


def _detached(session: Session, argv: list[str]) -> int:
    folders = session.folders
    if held(folders):
        raise UsageError(f"already up in {folders.root}")
    folders.logs.mkdir(parents=True, exist_ok=True)
    log = folders.logs / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "everloop", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while not _all_ready(folders):
        if (status := process.poll()) is not None:
            print(log.read_text(encoding="utf-8").strip().splitlines()[-1], file=sys.stderr)
            return status
        time.sleep(0.1)
    print(f"up in {folders.root}, pid {process.pid}; stop it with `everloop down`")
    return 0


def _all_ready(folders: Folders) -> bool:
    from everloop.runtime.supervise import read

    states = [part["state"] for part in read(folders).get("parts", {}).values()]
    return bool(states) and all(state in (State.READY, State.DONE) for state in states)
