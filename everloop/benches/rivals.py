"""Other model servers beside ours: the same SavedModel and the same request, each with one worker and without batching.

Ours is asked over gRPC, as the gateway asks it, and over REST, as the peers are asked: JSON through the same generator.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from everloop.benches import Measured
from everloop.figures import Peer
from everloop.peers import environment
from feedback.errors import UnavailableError
from serving.gateway.bench import generate

CLIENTS: Final = 16
_READY_S: Final = 120.0


@dataclass(frozen=True)
class Rival:
    """A peer: its name, its script, and the package that its version is of."""

    name: str
    script: str
    package: str


RIVALS: Final = (Rival("BentoML", "bento.py", "bentoml"), Rival("LitServe", "lit.py", "litserve"))


def ours(seconds: float, runs: int) -> Measured:
    """Our model server over REST: p50 of one client, and requests/s of sixteen."""
    from serving.model_server.bench import make_model, server

    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder:
        make_model(Path(folder) / "ranker" / "1")
        body = _body(Path(folder))
        with server(Path(folder) / "ranker", what="rest_port") as port:
            found = [_measure(port, "/v1/models/ranker:predict", body, seconds) for _ in range(runs)]
    return [
        ("model_rest_p50_ms", "ms", [p50 for p50, _ in found]),
        ("model_rest_rps", "1/s", [rps for _, rps in found]),
    ]


def peers(seconds: float, values: dict[str, float]) -> list[Peer]:
    """The others, against our figures in `values`."""
    from serving.model_server.bench import make_model

    found = []
    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder:
        make_model(Path(folder) / "ranker" / "1")
        body = _body(Path(folder))
        for rival in RIVALS:
            with _serving(rival, Path(folder)) as port:
                _until_ready(rival, port, body)
                p50, rps = _measure(port, "/predict", body, seconds)
            version = environment.version("serve", rival.package)
            for figure, value, unit, ratio in (
                ("model_p50_ms", p50, "ms", p50 / values["model_p50_ms"]),
                ("model_rest_p50_ms", p50, "ms", p50 / values["model_rest_p50_ms"]),
                ("model_rps", rps, "1/s", values["model_rps"] / rps),
                ("model_rest_rps", rps, "1/s", values["model_rest_rps"] / rps),
            ):
                found.append(Peer(name=rival.name, version=version, figure=figure, value=value, unit=unit, ratio=ratio))
    return found


def _body(folder: Path) -> Path:
    """The request of `serving.model_server.bench` as JSON; TensorFlow Serving's columns and the peers' arguments look the same."""
    from serving.model_server.bench import CANDIDATES, FEATURES, values

    flat = values()
    path = folder / "request.json"
    rows = [flat[row * FEATURES : (row + 1) * FEATURES] for row in range(CANDIDATES)]
    path.write_text(json.dumps({"inputs": {"x": rows}}), encoding="utf-8")
    return path


def _measure(port: int, path: str, body: Path, seconds: float) -> tuple[float, float]:
    common = ["--path", path, "--body", str(body), "--seconds", str(seconds), "--warm", "2"]
    one = generate(f"http://127.0.0.1:{port}", [*common, "--connections", "1"])
    many = generate(f"http://127.0.0.1:{port}", [*common, "--connections", str(CLIENTS)])
    for found in (one, many):
        if found["errors"] or found["lost"] or not found["answered"]:
            raise UnavailableError(f"port {port}: {found}: a server that fails measures nothing")
    return one["p50_ms"], many["rps"]


@contextmanager
def _serving(rival: Rival, folder: Path) -> Iterator[int]:
    """The peer's server on a free port, ended with all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [str(environment.python("serve")), str(environment.HERE / "serve" / rival.script)]
    log: IO[bytes]
    with (folder / f"{rival.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(folder / "ranker" / "1"), str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            start_new_session=True,
        )
        try:
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _until_ready(rival: Rival, port: int, body: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        found = generate(
            f"http://127.0.0.1:{port}",
            ["--path", "/predict", "--body", str(body), "--seconds", "0.5", "--warm", "0", "--connections", "1"],
        )
        if found["answered"]:
            return
        if time.monotonic() > deadline:
            log = (body.parent / f"{rival.name}.log").read_text(errors="replace").strip()[-500:]
            raise UnavailableError(f"{rival.name} does not answer after {_READY_S:g} s: {log}")
        time.sleep(1.0)
