"""The few lines between fork and exec: register with the warden, take a place in the queue for the processor, become the program.

Run as a script of its own: `python -I -S launch.py FD NICE PROGRAM ARG…`, where FD is the write end of the warden's pipe.
The process registers itself, so there is no moment at which it lives unregistered; it holds the pipe open until then,
so the warden cannot see its owner's end before it has read the registration.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main(argv: list[str]) -> None:
    """Register this process's group and execute the rest of the command line."""
    warden, nice, command = int(argv[1]), int(argv[2]), argv[3:]
    os.write(warden, f"+{os.getpid()}\n".encode())
    os.close(warden)
    if nice:
        yield_processor(nice)
    # Python ignores these two, and what is ignored stays ignored through exec.
    for restored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(restored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def yield_processor(nice: int) -> None:
    """Let others go first. Where Linux groups processes by session, it is the group's niceness that counts."""
    os.nice(nice)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as group:
        group.write(str(nice))


if __name__ == "__main__":
    main(sys.argv)
