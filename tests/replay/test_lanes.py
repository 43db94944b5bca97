"""The lanes under a world that answers, confirms and delivers in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.logs.slates import Happened, Slate
from everloop.replay.lanes import Lanes, Told
from feedback.errors import UsageError


def slate(number: int, event_time: int, *delays: int) -> Slate:
    outcomes = sorted(
        (Happened(f"i{n}", "click", 1.0, event_time + each) for n, each in enumerate(delays)), key=lambda h: h[3]
    )
    return Slate(f"s{number}", "u", event_time, ["i0", "i1", "i2"], outcomes=outcomes)


def test_an_outcome_waits_for_its_answer_and_for_older_slates() -> None:
    lanes = Lanes([slate(0, 0, 50), slate(1, 40), slate(2, 60)], spread_us=1_000, most_unconfirmed=9)
    assert lanes.ask() == slate(0, 0, 50)
    assert lanes.tell() is None
    lanes.answered("s0")
    assert lanes.tell() is None, "slate 1 is older than the outcome and not asked yet"
    lanes.ask()
    told = lanes.tell()
    assert told is not None and told.event_time == 50


def test_a_slate_waits_until_what_is_older_by_more_than_the_spread_has_arrived() -> None:
    lanes = Lanes([slate(0, 0), slate(1, 10), slate(2, 11)], spread_us=10, most_unconfirmed=9)
    assert lanes.ask() and lanes.ask()
    lanes.answered("s0")
    assert lanes.ask() is None, "answered is not yet in Kafka"
    lanes.confirmed("s0")
    assert lanes.ask()


def test_a_prediction_may_be_seen_before_its_answer_and_more_than_once() -> None:
    lanes = Lanes([slate(0, 0, 0)], spread_us=10, most_unconfirmed=9)
    lanes.ask()
    lanes.confirmed("s0")
    lanes.confirmed("s0")
    lanes.confirmed("a stranger's")
    assert lanes.floor() == 0
    lanes.answered("s0")
    told = lanes.tell()
    assert told is not None
    lanes.delivered(told)
    lanes.confirmed("s0")
    assert lanes.done


def test_the_outcomes_of_a_slate_that_was_given_up_are_not_sent() -> None:
    lanes = Lanes([slate(0, 0, 5), slate(1, 1, 9)], spread_us=100, most_unconfirmed=9)
    lanes.ask()
    lanes.ask()
    lanes.failed("s0")
    lanes.answered("s1")
    told = lanes.tell()
    assert told is not None and told.request_id == "s1"


def test_a_name_that_stands_twice_in_the_log_is_refused() -> None:
    lanes = Lanes([slate(0, 0), slate(0, 1)], spread_us=100, most_unconfirmed=9)
    lanes.ask()
    with pytest.raises(UsageError, match="s0 stands in the log twice"):
        lanes.ask()


Logs = st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 60), max_size=3)), max_size=25)


@given(log=Logs, spread=st.integers(1, 50), most=st.integers(1, 6), seed=st.integers(0, 999))
def test_whatever_the_order_of_arrival_everything_is_sent_once_and_in_order_enough(
    log: list[tuple[int, list[int]]], spread: int, most: int, seed: int
) -> None:
    chance = random.Random(seed)
    now, slates = 0, []
    for number, (pause, delays) in enumerate(log):
        now += pause
        slates.append(slate(number, now, *delays))
    lanes = Lanes(slates, spread_us=spread, most_unconfirmed=most)
    underway: list[tuple[int, str, Slate | Told]] = []
    failed: set[str] = set()
    sent: list[str] = []
    told_times: list[int] = []
    while not lanes.done:
        before = lanes.floor()
        move = chance.random()
        if move < 0.35 and (asked := lanes.ask()):
            assert asked.event_time - before <= spread
            assert lanes.unconfirmed <= most
            underway += [(asked.event_time, "answer", asked), (asked.event_time, "confirm", asked)]
            sent.append(asked.request_id)
        elif move < 0.7 and (told := lanes.tell()):
            assert told.event_time - before <= spread
            underway.append((told.event_time, "told", told))
            told_times.append(told.event_time)
            sent.append(f"{told.request_id}/{told.happened.item}")
        elif underway:
            _, kind, each = underway.pop(chance.randrange(len(underway)))
            if isinstance(each, Told):
                lanes.delivered(each)
            elif kind == "confirm":
                lanes.confirmed(each.request_id)
            elif chance.random() < 0.1:
                lanes.failed(each.request_id)
                failed.add(each.request_id)
            else:
                lanes.answered(each.request_id)
        # A tick below the floor is true: nothing older is on its way or still to be sent.
        assert all(time >= lanes.floor() for time, kind, _ in underway if kind in ("told", "answer"))
        assert lanes.floor() >= before
    wanted = {each.request_id for each in slates} | {
        f"{each.request_id}/{happened.item}"
        for each in slates
        if each.request_id not in failed
        for happened in each.outcomes
    }
    assert sorted(sent) == sorted(wanted)
    assert told_times == sorted(told_times)
    assert not lanes._open, "what is done is forgotten"
