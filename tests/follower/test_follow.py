"""The follower against a real Kafka and a real model server."""

from __future__ import annotations

from serving.follower.follow import Follower
from serving.follower.order import Position
from serving.follower.server import ModelServer
from tests.follower.conftest import Start
from tests.follower.kit import Line
from tests.follower.stage import eventually


def is_live(follower: Follower, version: int, sequence: int) -> bool:
    status = follower.status()
    loaded = status["loaded"].get(str(version), {})
    return bool(status["ready"] and status["labels"].get("live") == version and loaded.get("sequence") == sequence)


def test_a_version_becomes_live_and_takes_the_deltas_that_follow_on_it(follow: Start, line: Line, ask: ModelServer) -> None:
    line.delta()
    line.base(1)
    line.delta()
    line.delta(parts=3)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 3), what="version 1 live at 3")
    line.delta()
    line.checksum()
    eventually(lambda: is_live(follower, 1, 4), what="version 1 live at 4")
    assert ask.ask(1) == Position(1, 4)
    eventually(lambda: follower.metrics.passed._value.get() == 1, what="the checksum held")


def test_a_new_base_replaces_the_old_one_which_is_unloaded(follow: Start, line: Line, ask: ModelServer) -> None:
    line.base(1)
    follower = follow()
    line.delta()
    eventually(lambda: is_live(follower, 1, 1))
    line.base(2)
    line.delta()
    eventually(lambda: is_live(follower, 2, 2))
    eventually(lambda: set(ask.status()) == {2}, what="version 1 unloaded")
    line.delta()
    eventually(lambda: is_live(follower, 2, 3))
