"""Real-time features: counted once however often read, the same in any order, and read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.clock import SECOND
from feedback.codec import encode
from feedback.state import Count, decode_item, decode_user, item_features, user_features
from streams.counts import Counts, clicks, impressions
from streams.settings import StateSettings
from tests.streams.world import START, Broker, log, outcome, prediction, tick

RECEIVED = (START + 10_000 * SECOND) // 1000


def written(counts: Counts, store: dict[tuple[str, str], bytes]) -> None:
    """Write changes as Redis would keep them."""
    for key, fields in counts.changes().items():
        for field, value in fields:
            store[key, field] = value


def count(store: dict[tuple[str, str], bytes], read: object, rows: list[tuple[int, int, bytes]]) -> None:
    """One process's work on some records of partition 0."""
    counts = Counts(StateSettings(half_life_s=100, last_items=3), "")
    events = list(read(rows))  # type: ignore[operator]
    keys = counts.wanted(0, events)
    counts.load(keys, [store.get(key) for key in keys])
    counts.count(0, events)
    written(counts, store)


@given(cuts=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=6))
def test_records_read_again_after_a_crash_count_once(cuts: list[tuple[int, int]]) -> None:
    rows = [(n, RECEIVED, encode(prediction(f"r{n}", n * 10, ["a", f"b{n}"]))) for n in range(8)]
    whole: dict[tuple[str, str], bytes] = {}
    count(whole, impressions, rows)
    parts: dict[tuple[str, str], bytes] = {}
    reached = 0
    for back, on in cuts:
        begin, reached = max(0, reached - back), min(8, max(reached, reached + on))
        count(parts, impressions, rows[begin:reached])
    count(parts, impressions, rows[reached:])
    count(parts, impressions, rows)
    assert parts == whole
    state = decode_item({field.encode(): value for (key, field), value in whole.items() if key == "item:a"})
    assert item_features(state, START + 70 * SECOND)["item_age_s"] == 70
    expected = sum(2 ** ((n * 10 - 70) / 100) for n in range(8))
    assert item_features(state, START + 70 * SECOND)["item_impressions"] == pytest.approx(expected)


def test_a_reader_s_last_items_are_newest_first_and_each_once() -> None:
    broker = Broker(
        log([prediction("r1", 0), prediction("r2", 10), prediction("r3", 20), tick(900)]),
        log([outcome("r1", 5, "a"), outcome("r2", 15, "b"), outcome("r3", 25, "a"), outcome("r3", 26, "c"), tick(900)]),
    )
    broker.run([])
    store: dict[tuple[str, str], bytes] = {}
    rows = [
        (n, RECEIVED, encode(sample).replace(b'"ur1"', b'"u"').replace(b'"ur2"', b'"u"').replace(b'"ur3"', b'"u"'))
        for n, sample in enumerate(broker.samples)
    ]
    count(store, clicks, rows)
    state = decode_user({field.encode(): value for (key, field), value in store.items() if key == "user:u"})
    assert user_features(state, START)["user_last_items"] == ["c", "a", "b"]
    assert user_features(state, START)["user_last_item"] == "c"


@given(st.permutations([0, 10, 20, 500, 30]))
def test_a_decayed_count_is_the_same_in_any_order(times: list[int]) -> None:
    found, sorted_one = Count(), Count()
    for at in times:
        found = found.add(START + at * SECOND, 60)
    for at in sorted(times):
        sorted_one = sorted_one.add(START + at * SECOND, 60)
    assert found.time == sorted_one.time
    assert found.value == pytest.approx(sorted_one.value)


def test_what_was_never_seen_has_neutral_features() -> None:
    assert item_features(decode_item({}), START) == {
        "item_impressions": 0,
        "item_clicks": 0,
        "item_ctr": 0.05,
        "item_age_s": 0.0,
        "item_age_bucket": "0",
    }
    assert user_features(decode_user({}), START) == {"user_clicks": 0, "user_last_item": "", "user_last_items": []}
