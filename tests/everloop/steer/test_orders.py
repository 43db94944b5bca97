"""From one control record to the next."""

from __future__ import annotations

import pytest

from everloop.steer import orders
from everloop.steer.versions import rows
from feedback.errors import UsageError
from feedback.versions import Control, ModelEvent, Replica
from serving.follower.plan import Known


def known(version: int, *, epoch: int = 1, passed: bool = True, refused: bool = False) -> Known:
    return Known(version=version, line="a", epoch=epoch, sequence=0, uri="u", passed=passed, refused=refused)


VERSIONS = {1: known(1), 2: known(2, refused=True), 3: known(3), 4: known(4)}
NOTHING = Control(model="m", epoch=1)


def test_a_pin_lasts_until_it_is_taken_away() -> None:
    pinned = orders.pin(NOTHING, VERSIONS, 3)
    assert (pinned.version, pinned.pinned) == (3, True)
    assert orders.unpin(pinned) == NOTHING


def test_a_rollback_raises_the_epoch_pauses_and_ends_what_runs() -> None:
    trial = orders.start_canary(NOTHING, VERSIONS, 4, share=0.1, now=5)
    back = orders.rollback(trial, {**VERSIONS, 5: known(5, epoch=7)}, 3)
    assert (back.version, back.epoch, back.paused, back.canary, back.pinned) == (3, 8, True, None, False)


def test_resume_says_what_becomes_of_what_came_since() -> None:
    on = orders.resume(orders.rollback(NOTHING, VERSIONS, 1), "relearn")
    assert (on.version, on.paused, on.resume, on.epoch) == (0, False, "relearn", 2)


def test_without_a_name_a_rollback_goes_to_the_good_version_before_live() -> None:
    assert orders.before(VERSIONS, 3) == 1


def test_a_promoted_canary_is_what_shall_be_live() -> None:
    trial = orders.start_canary(NOTHING, VERSIONS, 4, share=0.1, now=5)
    assert orders.promote_canary(trial).version == 4
    assert orders.drop_canary(trial) == NOTHING


def refuse_pin_unknown() -> None:
    orders.pin(NOTHING, VERSIONS, 9)


def refuse_pin_refused() -> None:
    orders.pin(NOTHING, VERSIONS, 2)


def refuse_pin_old_epoch() -> None:
    orders.pin(Control(model="m", epoch=2), VERSIONS, 1)


def refuse_unpin() -> None:
    orders.unpin(NOTHING)


def refuse_rollback() -> None:
    orders.rollback(NOTHING, VERSIONS, 2)


def refuse_before() -> None:
    orders.before(VERSIONS, 1)


def refuse_resume() -> None:
    orders.resume(NOTHING, "skip")


def refuse_second_canary() -> None:
    orders.start_canary(orders.start_canary(NOTHING, VERSIONS, 4, share=0.1, now=5), VERSIONS, 3, share=0.1, now=6)


def refuse_share() -> None:
    orders.start_canary(NOTHING, VERSIONS, 4, share=1.0, now=5)


def refuse_promotion() -> None:
    orders.promote_canary(NOTHING)


REFUSED = [
    (refuse_pin_unknown, "version 9 is not known; the newest are: 1, 2, 3, 4"),
    (refuse_pin_refused, "was refused"),
    (refuse_pin_old_epoch, "everloop rollback 1"),
    (refuse_unpin, "no version is pinned"),
    (refuse_rollback, "was refused"),
    (refuse_before, "nothing to roll back to"),
    (refuse_resume, "nothing is paused"),
    (refuse_second_canary, "version 4 is the canary already"),
    (refuse_share, "above 0 and below 1"),
    (refuse_promotion, "no canary runs"),
]


@pytest.mark.parametrize(("order", "said"), REFUSED, ids=[order.__name__ for order, _ in REFUSED])
def test_an_order_that_makes_no_sense_is_refused(order, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=said):
        order()


def test_the_table_says_where_each_version_stands() -> None:
    events = [
        ModelEvent(model="m", line="a", version=1, event="exported", time=1, uri="u"),
        ModelEvent(model="m", line="a", version=1, event="gated", time=2, uri="u"),
        ModelEvent(model="m", line="a", version=2, event="exported", time=3, uri="u"),
        ModelEvent(model="m", line="a", version=2, event="refused", time=4, uri="u", reason="log loss"),
        ModelEvent(model="m", line="a", version=3, event="exported", time=5, uri="u"),
        ModelEvent(model="m", line="a", version=3, event="refused", time=6, by="follower/b", reason="disk full"),
        ModelEvent(model="m", line="a", version=3, event="gated", time=5, uri="u"),
    ]
    replica = Replica(model="m", replica="a", time=9, live=1, loaded={1: 5, 3: 4})
    found = rows(events, Control(model="m", version=1, pinned=True), [replica])
    assert [(row.version, row.state, row.pinned) for row in found] == [
        (3, "loaded", False),
        (2, "refused", False),
        (1, "live", True),
    ]
    assert found[0].reason == "disk full"
    assert found[2].replicas == {"a": 5}
