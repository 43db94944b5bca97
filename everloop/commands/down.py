"""`everloop down`: stop what `up` started, from another terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Annotated

import typer

from everloop.commands.options import Data, File
from everloop.folders import held, owner
from everloop.session import open_session
from feedback.errors import UnavailableError

Timeout = Annotated[float, typer.Option("--timeout", metavar="S", help="How long to wait for a clean end, seconds.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("down")(down)


def down(data: Data = None, config: File = None, timeout: Timeout = 120.0) -> None:
    """Stop the loop that runs in this data folder."""
    folders = open_session(data, config).folders
    if not held(folders):
        print(f"nothing is up in {folders.root}")
        return
    pid = owner(folders)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while held(folders):
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"pid {pid} still runs in {folders.root} after {timeout:g} s; `kill -9 {pid}` ends all"
            )
        time.sleep(0.05)
    print(f"stopped what was up in {folders.root}")
