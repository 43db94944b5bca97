"""Starting and stopping one process such that it never outlives this one."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_HERE = Path(__file__).parent


class Warden:
    """This process's connection to its warden, which is started at first use and again if somebody kills it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()
        self._lock = threading.Lock()

    def descriptor(self) -> int:
        """Return the write end of the pipe to a living warden that knows every group."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None and self._process.stdin is not None
            return self._process.stdin.fileno()

    def add(self, group: int) -> None:
        """Remember a group that has registered itself, for a warden that has to be started again."""
        with self._lock:
            self._groups.add(group)

    def release(self, group: int) -> None:
        """Forget a group that is gone: its number may be given to a stranger."""
        with self._lock:
            self._groups.discard(group)
        # A warden that dies at this moment forgets the group too.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.descriptor(), f"-{group}\n".encode())

    def _start(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_HERE / "warden.py"), *map(str, self._groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def close(self) -> None:
        """End the warden, and with it every group that was not released."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()


_warden = Warden()
atexit.register(_warden.close)


def guard() -> None:
    """See to it that there is a living warden; cheap enough to be called often."""
    _warden.descriptor()


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    nice: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, under this process's warden.

    `env` is added to this process's environment; `nice` (0 to 19) says how far it stands back for others. A program that
    can't be executed exits with status 1 and says why on its standard error.
    """
    descriptor = _warden.descriptor()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_HERE / "launch.py"), str(descriptor), str(nice), *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        pass_fds=(descriptor,),
        start_new_session=True,
    )
    _warden.add(process.pid)
    return process


def reap(process: subprocess.Popen[bytes]) -> None:
    """Kill what an ended process has left in its group, and release the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _warden.release(process.pid)


def stop(process: subprocess.Popen[bytes], *, timeout_s: float) -> int:
    """Ask a process to end, kill its group when it hasn't after `timeout_s`, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    reap(process)
    return process.wait()
