"""The few lines between fork and exec: register with the warden, then become the program.

Run as a script of its own: `python -I -S launch.py FD PROGRAM ARG…`, where FD is the write end of the warden's pipe.
The process registers itself, so there is no moment at which it lives unregistered; it holds the pipe open until then,
so the warden cannot see its owner's end before it has read the registration.
"""

from __future__ import annotations

import os
import signal
import sys


def main(argv: list[str]) -> None:
    """Register this process's group and execute the rest of the command line."""
    warden, command = int(argv[1]), argv[2:]
    os.write(warden, f"+{os.getpid()}\n".encode())
    os.close(warden)
    # Python ignores these two, and what is ignored stays ignored through exec.
    for restored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(restored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv)
