"""A reader's history: only what was known when a slate was served, the same for training and for replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.logs.history import remembered
from everloop.logs.mapping import FeatureRule, Mapping, OutcomeRule, SlateRule, TimeColumn, load
from everloop.logs.samples import samples
from everloop.logs.slates import Happened, Slate
from everloop.replay.ask import request
from feedback.clock import SECOND
from feedback.errors import ConfigError
from tests.everloop_logs.build import BASE, log_of

RECENT = BASE + '[[feature]]\nname = "recent"\nof = "history"\nkind = "strings"\n'
HISTORY = RECENT + "last = 2\n"


def click(at: int, who: str, what: str, *, stars: int = 5, **more: Any) -> dict[str, Any]:
    return {"at": at, "who": who, "what": what, "stars": stars} | more


def recents(folder: Path, rows: list[dict[str, Any]], text: str = HISTORY) -> list[Any]:
    return [slate.context["recent"] for slate in log_of(folder, rows, text=text).slates()]


def test_a_slate_knows_what_its_reader_clicked_on_before_the_newest_first(tmp_path: Path) -> None:
    rows = [click(at, "a", what) for at, what in ((0, "x"), (100, "y"), (200, "z"), (300, "w"))]
    assert recents(tmp_path, rows) == [[], ["x"], ["y", "x"], ["z", "y"]]


def test_readers_know_nothing_of_each_other(tmp_path: Path) -> None:
    assert recents(tmp_path, [click(0, "a", "x"), click(100, "b", "y"), click(200, "a", "z")]) == [[], [], ["x"]]


def test_what_was_shown_and_not_clicked_is_not_remembered(tmp_path: Path) -> None:
    assert recents(tmp_path, [click(0, "a", "x", stars=1), click(100, "a", "y"), click(200, "a", "z")]) == [
        [],
        [],
        ["y"],
    ]


def test_a_value_stands_once_and_moves_to_the_front(tmp_path: Path) -> None:
    rows = [click(at, "a", what) for at, what in ((0, "x"), (100, "y"), (200, "x"), (300, "z"))]
    assert recents(tmp_path, rows)[-1] == ["x", "y"]


def test_no_slate_knows_a_click_of_its_own_moment_or_later(tmp_path: Path) -> None:
    text = HISTORY.replace('when = "stars >= 4"', 'when = "stars >= 4"\ndelay = "wait"')
    rows = [click(0, "a", "x", wait=200), click(100, "a", "y", wait=0), click(200, "a", "z", wait=0)]
    rows.append(click(300, "a", "w", wait=0))
    # At 200 the click on x happens: the slate of that moment can't have known it.
    assert recents(tmp_path, rows, text) == [[], [], ["y"], ["z", "x"]]


def test_an_outcome_is_known_after_the_time_that_the_mapping_says(tmp_path: Path) -> None:
    rows = [click(0, "a", "x"), click(100, "a", "y"), click(200, "a", "z")]
    assert recents(tmp_path, rows, HISTORY + "known_s = 100\n") == [[], [], ["x"]]


def test_a_history_may_be_of_a_features_values_by_another_feature_of_another_outcome(tmp_path: Path) -> None:
    films = [{"id": "x", "genres": "a|b"}, {"id": "y", "genres": "c"}, {"id": "z", "genres": ""}]
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(film) + "\n" for film in films))
    text = (
        HISTORY.replace("[time]", '[side.films]\nfile = "films.jsonl"\nkey = "id"\non = "what"\n[time]', 1)
        + 'key = "genres"\nby = "city"\noutcome = "dwell"\n'
        + '[[feature]]\nname = "city"\n'
        + '[[feature]]\nname = "genres"\nof = "candidate"\nkind = "strings"\nside = "films"\nsplit = "|"\n'
        + '[[outcome]]\nwhen = "read > 10"\nkind = "dwell"\n'
    )
    rows = [
        click(0, "a", "x", city="Graz", read=20),
        click(100, "b", "y", city="Graz", read=5),
        click(200, "b", "z", city="Graz", read=50),
        click(300, "c", "z", city="Graz", read=0),
        click(400, "c", "z", city="Wien", read=0),
    ]
    assert recents(tmp_path, rows, text) == [[], ["a", "b"], ["a", "b"], ["a", "b"], []]


def test_a_limit_changes_no_slate_and_chunks_change_no_history(tmp_path: Path) -> None:
    rows = [click(100 * n, f"u{n % 2}", f"i{n % 5}", slate=n) for n in range(30)]
    log = log_of(tmp_path, rows, text=HISTORY)
    whole = [slate.context for slate in log.slates()]
    assert [slate.context for slate in log.slates(limit=7)] == whole[:7]
    chunked = HISTORY.replace("gap_s = 60", 'column = "slate"').replace("[time]", "sorted = true\nbatch = 4\n[time]", 1)
    assert [slate.context for slate in log_of(tmp_path, rows, text=chunked).slates()] == whole


def test_training_and_replay_see_the_same_history(tmp_path: Path) -> None:
    log = log_of(tmp_path, [click(100 * n, "a", f"i{n}") for n in range(5)], text=HISTORY)
    learned = [sample.context for sample in samples(log)]
    asked = [msgspec.json.decode(request(slate))["context"] for slate in log.slates()]
    assert learned == asked
    assert learned[-1] == {"recent": ["i3", "i2"]}


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 20))),
    st.integers(0, 5),
)
def test_a_history_is_what_a_look_back_over_the_log_finds(slates: list[tuple[int, str, str, int]], known: int) -> None:
    rule = FeatureRule(name="recent", of="history", kind="strings", last=2, known_s=float(known))
    mapping = Mapping(
        name="tiny",
        user="who",
        item="what",
        time=TimeColumn(column="at"),
        slate=SlateRule(gap_s=1.0),
        outcome=(OutcomeRule(when="y == 1"),),
        feature=(rule,),
    )
    made = [
        Slate(str(n), user, at * SECOND, [item], outcomes=[Happened(item, "click", 1.0, (at + delay) * SECOND)])
        for n, (at, user, item, delay) in enumerate(sorted(slates, key=lambda each: each[0]))
    ]
    for at, slate in enumerate(remembered(made, mapping)):
        before = [
            (happened.event_time, number, happened.item)
            for number, other in enumerate(made[:at])
            for happened in other.outcomes
            if other.user == slate.user and happened.event_time + known * SECOND < slate.event_time
        ]
        newest = dict.fromkeys(item for _, _, item in sorted(before, reverse=True))
        assert slate.context["recent"] == list(newest)[:2]


@pytest.mark.parametrize(
    ("line", "key", "allowed"),
    [
        ('key = "age"', "feature.0.key", "one of ['item']"),
        ('by = "city"', "feature.0.by", "one of ['user']"),
        ('outcome = "buy"', "feature.0.outcome", "one of ['click']"),
        ('column = "what"', "feature.0.column", "it has no column"),
        ("last = 0", "feature.0.last", "from 1 to 1000"),
    ],
)
def test_a_history_that_can_not_be_is_refused(line: str, key: str, allowed: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{RECENT}{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.key == key
    assert allowed in str(caught.value)


def test_a_history_holds_several_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RECENT.replace('kind = "strings"\n', ""))
    with pytest.raises(ConfigError, match="strings for history"):
        load(path)
