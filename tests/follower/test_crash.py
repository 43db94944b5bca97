"""Processes that are killed, a server that forgets, a swap under load: crashes are ordinary."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from feedback.settings import KafkaSettings
from serving.follower.order import Position
from serving.follower.server import ModelServer
from serving.follower.settings import FollowerSettings
from tests.follower.conftest import Start
from tests.follower.kit import Line
from tests.follower.stage import Process, client, eventually, is_live, model_server, score


def process(topics: KafkaSettings, settings: FollowerSettings, data: Path, port: int) -> Process:
    return Process(
        [
            sys.executable, "-m", "serving.follower", f"--kafka={topics.bootstrap}", f"--namespace={topics.namespace}",
            f"--data={data}", "--replica=a", f"--model-server=127.0.0.1:{port}",
            f"--settings={msgspec.json.encode(settings).decode()}",
        ],
        data / "follower.log",
    )  # fmt: skip


def metric(follower: Process, name: str) -> float:
    lines = str(follower.get("/metrics")).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"everloop_follower_{name} "))


def kill_again_and_again(
    kills: int, topics: KafkaSettings, fast: FollowerSettings, data: Path, server: Process, line: Line, ask: ModelServer
) -> None:
    """The follower dies at random moments while deltas and bases come; every checksum must hold in the end."""
    rng = random.Random(kills)
    line.base(1)
    version = 1
    with process(topics, fast, data, server.ready["grpc_port"]) as follower:
        for number in range(kills):
            follower.start()
            moment = time.monotonic() + rng.uniform(0.2, 1.6)
            while time.monotonic() < moment:
                line.delta()
                time.sleep(0.005)
            if number % 3 == 1:
                version += 1
                line.base(version)
            follower.kill()
        follower.start()
        line.delta()
        eventually(lambda: ask.ask(version) == Position(1, line.sequence), what="the last delta applied")
        eventually(lambda: follower.get("/status")["labels"] == {"live": version}, what="the last version live")
        eventually(lambda: follower.get("/ready")["ready"], what="ready")
        line.checksum()
        eventually(lambda: metric(follower, "checksums_passed") >= 1, what="the checksum held")
        assert metric(follower, "checksums_failed") == 0
        assert follower.kill(signal.SIGTERM) == 0


def test_a_follower_killed_again_and_again_leaves_no_gap_and_no_repeat(
    topics: KafkaSettings, fast: FollowerSettings, data_dir: Path, server: Process, line: Line, ask: ModelServer
) -> None:
    kill_again_and_again(3, topics, fast, data_dir, server, line, ask)


@pytest.mark.slow
def test_a_follower_killed_twenty_times_leaves_no_gap_and_no_repeat(
    topics: KafkaSettings, fast: FollowerSettings, data_dir: Path, server: Process, line: Line, ask: ModelServer
) -> None:
    kill_again_and_again(20, topics, fast, data_dir, server, line, ask)


def test_after_the_model_server_was_killed_its_model_comes_back_as_fresh_as_before(
    follow: Start, line: Line, tmp_path: Path, model: str
) -> None:
    line.base(1)
    with model_server(tmp_path) as server:
        port = server.ready["grpc_port"]
        ask = client(port, model)
        follower = follow(address=f"127.0.0.1:{port}")
        for _ in range(3):
            line.delta()
        eventually(lambda: is_live(follower, 1, 3))
        server.kill()
        line.delta()
        eventually(lambda: follower.status()["problem"])
    with model_server(tmp_path, port=port):
        eventually(lambda: ask.ask(1) == Position(1, 4) if ask.status() else None, what="caught up again")
        eventually(lambda: is_live(follower, 1, 4))
        assert score(ask, [b"x"]).model_spec.version.value == 1
    ask.close()


def test_no_request_fails_while_versions_are_swapped(follow: Start, line: Line, ask: ModelServer) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    answers: list[tuple[int, int]] = []
    failures: list[Any] = []
    done = threading.Event()

    def readers() -> None:
        while not done.is_set():
            try:
                answer = score(ask, [b"a", b"b"])
                answers.append((answer.model_spec.version.value, answer.outputs["sequence"].int64_val[0]))
            except (grpc.RpcError, Exception) as error:  # noqa: BLE001 - whatever it is, it is a failed request
                failures.append(error)
            time.sleep(0.002)

    threads = [threading.Thread(target=readers) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(2, 6):
        for _ in range(5):
            line.delta()
        line.base(version)
        line.delta()
        eventually(lambda v=version: is_live(follower, v, line.sequence))  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {version for version, _ in answers} == {1, 2, 3, 4, 5}
    assert all(later[1] >= earlier[1] - 1 for earlier, later in zip(answers, answers[2:], strict=False))
