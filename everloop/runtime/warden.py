"""The watcher that kills what its owner leaves behind, even when the owner is killed with SIGKILL.

Run as a script of its own (`python -I -S warden.py PGID…`), in a session of its own, with standard input a pipe whose write
end the owner holds. Lines `+PGID` and `-PGID` register and release a process group; the end of the input means that
the owner is gone, however it went, and every group still registered is killed with all that is in it. The arguments are
groups that are registered from the start: a warden that follows a killed one knows them before its owner can die.
A parent-death signal would not do: it is bound to the thread that forked, is lost for grandchildren, and is Linux only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

_ROUNDS = 3
"""A process that was inside fork() while its group was killed may leave a child: kill again."""


def registered(lines: Iterable[bytes], known: Iterable[int] = ()) -> set[int]:
    """Return the groups that are still registered when the lines end."""
    groups = set(known)
    for line in lines:
        group = int(line[1:])
        (groups.add if line[:1] == b"+" else groups.discard)(group)
    return groups


def kill(groups: set[int]) -> None:
    """Kill every process of these groups."""
    for _ in range(_ROUNDS):
        for group in groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.05)


def main(argv: list[str]) -> None:
    """Watch standard input until it ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    kill(registered(sys.stdin.buffer, map(int, argv[1:])))


if __name__ == "__main__":
    main(sys.argv)
