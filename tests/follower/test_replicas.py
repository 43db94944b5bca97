"""Two replicas, each with a model server of its own and a network that fails: they end up equal, by the checksum of their rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.follower.follow import Follower
from serving.follower.proxy import FaultyProxy
from serving.follower.server import ModelServer
from tests.follower.conftest import Start
from tests.follower.kit import Line
from tests.follower.stage import Process, client, eventually, is_live, model_server
from tests.follower.test_learner import export, send
from tests.trainer.core import rows

SHARE = 0.1
"""Of the sync calls that fail: half of them before the model server has heard of them, half after it has done the work."""


@contextlib.contextmanager
def replicas(
    follow: Start, server: Process, folder: Path, model: str
) -> Iterator[list[tuple[Follower, FaultyProxy, ModelServer]]]:
    """Two followers, each behind a proxy that fails by a seed of its own."""
    with contextlib.ExitStack() as stack:
        found = []
        for number, process in enumerate([server, stack.enter_context(model_server(folder))]):
            port = process.ready["grpc_port"]
            proxy = stack.enter_context(FaultyProxy(f"127.0.0.1:{port}", share=SHARE, seed=number + 1))
            ask = client(port, model)
            stack.callback(ask.close)
            follower = follow(replica=f"r{number}", address=proxy.address, folder=str(folder / f"r{number}"), batch=1)
            stack.callback(follower.close)
            found.append((follower, proxy, ask))
        yield found


def fail_at_random(
    intervals: int, deltas: int, follow: Start, line: Line, server: Process, folder: Path, model: str
) -> None:
    """A learner goes on, with a checksum after so many deltas; every replica must hold each within two of its intervals."""
    from trainer.groups import DeltaSettings
    from trainer.learner import Learner
    from trainer.settings import ModelSettings

    defaults = DeltaSettings()
    patience_s = 2 * defaults.checksum_every * defaults.every_s
    learner: Any = Learner(rows.SPEC, ModelSettings(kind="deepfm", dim=4, hidden=(8,)), line=line.name, epoch=1)
    learner.learn(rows.batch(0))
    assert learner.take_delta(), "what the first base contains"
    export(line, learner, 1, rows.SPEC)
    with replicas(follow, server, folder, model) as both:
        for follower, _, _ in both:
            eventually(lambda f=follower: is_live(f, 1, 1), what="the base live")  # type: ignore[misc]
        for interval in range(1, intervals + 1):
            for number in range(deltas):
                learner.learn(rows.batch(interval * deltas + number))
                send(line, learner, learner.take_delta())
            probe, expected = learner.checksum(interval)
            send(line, learner, probe, kind="checksum", expected=expected)
            for follower, _, _ in both:
                held = follower.metrics.passed._value
                eventually(
                    lambda h=held, n=interval: h.get() == n,  # type: ignore[misc]
                    within_s=patience_s,
                    what=f"checksum {interval} of {follower.replica}",
                )
        for follower, proxy, ask in both:
            answer = ask.checksum(1, probe)
            assert (answer.sequences, answer.values) == ([learner.sequence], [expected])
            assert follower.metrics.failed._value.get() == 0
            assert not follower.status()["problem"]
            assert proxy.failed_before and proxy.failed_after
    learner.close()


def test_replicas_whose_sync_calls_fail_at_random_are_equal_by_checksum_within_two_intervals(
    follow: Start, line: Line, server: Process, tmp_path: Path, model: str
) -> None:
    fail_at_random(5, 20, follow, line, server, tmp_path, model)


@pytest.mark.slow
def test_replicas_stay_equal_through_thousands_of_sync_calls_of_which_some_fail(
    follow: Start, line: Line, server: Process, tmp_path: Path, model: str
) -> None:
    fail_at_random(40, 100, follow, line, server, tmp_path, model)
