"""The follower against a real Kafka and a real model server."""

from __future__ import annotations

import struct

import pytest

from feedback.versions import Canary
from serving.follower.follow import Follower
from serving.follower.order import Position
from serving.follower.proxy import FaultyProxy
from serving.follower.server import ModelServer
from tests.follower.conftest import Start
from tests.follower.kit import Line
from tests.follower.stage import Process, eventually, is_live, score


def sequence_of(follower: Follower, version: int) -> int:
    return int(follower.status()["loaded"].get(str(version), {}).get("sequence", -1))


def test_a_version_becomes_live_and_takes_the_deltas_that_follow_on_it(
    follow: Start, line: Line, ask: ModelServer
) -> None:
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
    assert score(ask, [b"x"]).model_spec.version.value == 1


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


def test_a_gap_stops_the_model_until_a_base_contains_what_is_missing(
    follow: Start, line: Line, ask: ModelServer
) -> None:
    line.base(1)
    follower = follow()
    line.delta()
    line.delta(damage=True)
    line.delta()
    eventually(lambda: "gap" in follower.status()["problem"])
    assert ask.ask(1) == Position(1, 1)
    line.base(2)
    line.delta()
    eventually(lambda: is_live(follower, 2, 4))


def test_a_follower_that_comes_back_goes_on_where_the_model_is(follow: Start, line: Line, ask: ModelServer) -> None:
    line.base(1)
    first = follow()
    line.delta()
    eventually(lambda: is_live(first, 1, 1))
    first.stop()
    first.close()
    for _ in range(80):
        line.delta()
    second = follow()
    eventually(lambda: is_live(second, 1, 81))
    assert second.metrics.swaps.labels("live")._value.get() == 0, "the label was where it belongs"
    assert ask.ask(1) == Position(1, 81)


def test_sync_calls_that_fail_at_random_leave_no_gap_and_no_repeat(follow: Start, line: Line, server: Process) -> None:
    line.base(1)
    with FaultyProxy(f"127.0.0.1:{server.ready['grpc_port']}", share=0.1, seed=3) as proxy:
        follower = follow(address=proxy.address, batch=1)
        for _ in range(12):
            for _ in range(10):
                line.delta()
            line.checksum()
        eventually(lambda: is_live(follower, 1, 120))
        line.checksum()
        eventually(lambda: follower.metrics.passed._value.get() >= 1)
        assert follower.metrics.failed._value.get() == 0
        assert proxy.failed_before and proxy.failed_after
        follower.stop()
        follower.close()


def test_a_replica_that_differs_is_loaded_anew_and_says_so_when_that_does_not_mend_it(
    follow: Start, line: Line, ask: ModelServer
) -> None:
    line.base(1)
    follower = follow(repairs=1)
    line.delta(wrong=5)
    line.delta()
    line.checksum()
    # What is wrong here stands in the log, so that the base ends at the same difference when it has been loaded anew.
    eventually(lambda: follower.metrics.failed._value.get() == 2, what="an alert before and one after the repair")
    eventually(lambda: "differs from the trainer" in follower.status()["problem"])
    assert is_live(follower, 1, 2), "a model that differs a little is better than none"
    line.base(2)
    line.delta()
    line.checksum()
    eventually(lambda: is_live(follower, 2, 3))
    eventually(lambda: follower.metrics.passed._value.get() >= 1)
    assert not follower.status()["problem"]


def test_a_replica_whose_memory_is_damaged_is_mended_by_an_older_base_without_a_pause(
    follow: Start, line: Line, ask: ModelServer
) -> None:
    line.base(1)
    follower = follow(drain_s=60.0)
    line.delta()
    eventually(lambda: is_live(follower, 1, 1))
    line.base(2)
    eventually(lambda: is_live(follower, 2, 1))
    # Somebody else's delta: the model moves on to where the line is going, with another weight.
    ask.sync(2, [struct.pack("<4q", 1, 1, 9, 77)])
    line.delta()
    line.checksum()
    eventually(lambda: follower.metrics.failed._value.get() == 1, what="an alert")
    eventually(
        lambda: [swap["version"] for swap in follower.status()["swaps"]] == [1, 2, 1, 2], what="1 stood in for 2"
    )
    line.checksum()
    eventually(lambda: is_live(follower, 2, 2))
    eventually(lambda: follower.metrics.passed._value.get() >= 1, what="the repaired model holds")


def test_a_corrupt_version_is_refused_and_the_old_one_stays(follow: Start, line: Line, ask: ModelServer) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    shard = next((line.base(2, gated=False) / "variables").glob("*.data-*"))
    data = bytearray(shard.read_bytes())
    data[0] ^= 255
    shard.write_bytes(data)
    line.announce(2, "gated")
    eventually(lambda: "2" in follower.status()["unusable"])
    assert "SHA-256" in follower.status()["unusable"]["2"]
    line.delta()
    eventually(lambda: is_live(follower, 1, 1))
    assert not list(follower.folder.glob(".part-*"))


def test_a_version_whose_scores_are_no_probabilities_is_refused(follow: Start, line: Line) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    line.base(2, weights=[9_000] * 16)
    eventually(lambda: "2" in follower.status()["unusable"])
    assert "same sequence" in follower.status()["unusable"]["2"]
    assert follower.status()["labels"] == {"live": 1}


def test_after_a_rollback_no_delta_of_the_old_epoch_is_applied(follow: Start, line: Line, ask: ModelServer) -> None:
    line.base(1)
    follower = follow()
    for _ in range(5):
        line.delta()
    line.base(2)
    eventually(lambda: is_live(follower, 2, 5))
    line.control(version=1, epoch=2, paused=True)
    eventually(lambda: follower.status()["floor"] == 2)
    line.delta()
    line.roll_back(1, new=3)
    eventually(lambda: is_live(follower, 3, 0), what="the base made from version 1's checkpoint")
    line.control(version=0, epoch=2, resume="skip")
    line.delta()
    line.checksum()
    eventually(lambda: is_live(follower, 3, 1))
    assert ask.ask(3) == Position(2, 1)
    eventually(lambda: follower.metrics.passed._value.get() >= 1)


def test_until_the_trainer_has_made_the_new_base_the_old_one_stands_in(
    follow: Start, line: Line, ask: ModelServer
) -> None:
    line.base(1)
    follower = follow()
    line.delta()
    line.base(2)
    eventually(lambda: is_live(follower, 2, 1))
    eventually(lambda: set(ask.status()) == {2})
    line.control(version=1, epoch=2, paused=True)
    eventually(lambda: follower.status()["labels"] == {"live": 1})
    line.delta()
    assert ask.ask(1) == Position(1, 0), "as it was exported"


def test_a_pinned_version_stays_live_whatever_is_exported(follow: Start, line: Line) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    line.control(version=1, pinned=True)
    eventually(lambda: follower._view.control is not None)
    line.base(2)
    line.delta()
    eventually(lambda: is_live(follower, 1, 1))
    eventually(lambda: 2 in follower._view.known)
    assert follower.status()["labels"] == {"live": 1}
    line.control(version=0)
    eventually(lambda: is_live(follower, 2, 1))


def test_a_canary_of_the_same_line_gets_no_deltas_and_goes_when_it_is_over(
    follow: Start, line: Line, ask: ModelServer
) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    line.base(2, gated=False)
    line.announce(2, "exported", canary=True)
    line.control(canary=Canary(version=2, share=0.1, started=0))
    eventually(lambda: follower.status()["labels"] == {"canary": 2, "live": 1})
    line.delta()
    eventually(lambda: sequence_of(follower, 1) == 1)
    assert ask.ask(2) == Position(1, 0)
    line.control()
    eventually(lambda: follower.status()["labels"] == {"live": 1} and set(ask.status()) == {1})


@pytest.mark.parametrize("missing", ["manifest.json", "saved_model.pb"])
def test_a_half_published_version_is_not_taken(missing: str, follow: Start, line: Line) -> None:
    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    (line.base(2, gated=False) / missing).unlink()
    line.announce(2, "gated")
    eventually(lambda: 2 in follower.status()["fetching"] or "2" in follower.status()["unusable"])
    assert not (follower.folder / "2").exists()
    assert is_live(follower, 1, 0)
