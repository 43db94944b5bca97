"""The model server as a process: flags in, ports open, one JSON line on standard output when they are.

`main(argv)` is what `everloop model-server …` and `python -m serving.model_server` call. SIGTERM and SIGINT end the
process at once, as they end the official server: there is nothing on disk to put in order.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import uvloop

from feedback import turns
from feedback.errors import UsageError
from serving.model_server.faults import ServingError
from serving.model_server.flags import Flags, parse, usage
from serving.model_server.server import Server

FAILED = 255
"""Exit status of every failure to start, as the official binary has it."""

SWITCH_S = 0.0005
"""Seconds that a thread may keep the interpreter to itself while another waits: a tenth of Python's default, because the
other may be a request, and the one a version that loads."""

log = logging.getLogger("everloop.model_server")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to end; return the exit status."""
    logging.basicConfig(
        stream=sys.stderr, format='{"at":"%(asctime)s","level":"%(levelname)s","message":"%(message)s"}'
    )
    log.setLevel(logging.INFO)
    try:
        flags, unknown = parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"{error}\n{usage()}", file=sys.stderr)
        return FAILED
    for argument in unknown:
        print(f"Unknown flag: {argument}", file=sys.stderr)
    if flags.version:
        print(f"TensorFlow ModelServer API by everloop {_version('everloop')}, TensorFlow {_version('tensorflow')}")
        return 0
    if not flags.model_base_path and not flags.model_config_file:
        print(usage(), file=sys.stderr)
        return FAILED
    _end_at_signals()
    sys.setswitchinterval(SWITCH_S)
    turns.answer()
    try:
        uvloop.run(_serve(flags))
        return 0
    except (ServingError, OSError) as error:
        status = error.status if isinstance(error, ServingError) else str(error)
        print(f"Failed to start server. Error: {status}", file=sys.stderr)
        return FAILED


def _end_at_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


async def _serve(flags: Flags) -> None:
    server = Server(flags)
    await server.start()
    # A full collection walks through all of TensorFlow's objects and stops every request meanwhile (0.9 s seen at an
    # unload): what is there now stays, so the collector need not look at it again.
    gc.collect()
    gc.freeze()
    print(json.dumps({"event": "ready", "grpc_port": server.grpc_port, "rest_port": server.rest_port}), flush=True)
    await server.wait()
