from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from everloop.logs.samples import samples
from everloop.logs.slates import Happened, Log
from feedback.clock import SECOND
from feedback.errors import UsageError
from feedback.events import NEGATIVE, POSITIVE
from tests.everloop_logs.build import BASE, ROWS, log_of

BY_COLUMN = """
name = "tiny"
user = "who"
item = "what"
sorted = true
batch = 3
[time]
column = "at"
[slate]
column = "slate"
[[outcome]]
when = "y == 1"
"""


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_each_format_gives_the_same_slates_in_the_order_of_time(form: str, tmp_path: Path) -> None:
    found = list(log_of(tmp_path, form=form).slates())
    assert [(slate.user, slate.event_time // SECOND, slate.items) for slate in found] == [
        ("a", 1000, ["x", "y"]),
        ("b", 1010, ["x"]),
        ("a", 1200, ["z"]),
    ]
    assert [slate.outcomes for slate in found] == [
        [Happened("x", "click", 1.0, 1000 * SECOND)],
        [Happened("x", "click", 1.0, 1010 * SECOND)],
        [],
    ]
    assert len({slate.request_id for slate in found}) == 3


def test_a_limit_gives_the_first_slates(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    assert list(log.slates(limit=2)) == list(log.slates())[:2]


def test_a_slate_that_lies_across_chunks_stays_whole(tmp_path: Path) -> None:
    rows = [{"at": at, "who": "a", "what": f"i{n}", "slate": at, "y": n % 2} for at in range(5) for n in range(4)]
    for form in ("csv", "parquet", "jsonl"):
        folder = tmp_path / form
        folder.mkdir()
        found = list(log_of(folder, rows, text=BY_COLUMN, form=form).slates())
        assert [slate.items for slate in found] == [["i0", "i1", "i2", "i3"]] * 5
        assert [[each.item for each in slate.outcomes] for slate in found] == [["i1", "i3"]] * 5


def test_a_chunked_log_gives_what_the_whole_one_gives(tmp_path: Path) -> None:
    rows = [{"at": n // 3, "who": f"u{n % 2}", "what": f"i{n}", "slate": n // 3, "y": n % 2} for n in range(31)]
    for row in rows:
        row["who"] = f"u{int(row['slate']) % 2}"  # type: ignore[call-overload]
    streamed = log_of(tmp_path, rows, text=BY_COLUMN)
    found = list(streamed.slates())
    whole = log_of(tmp_path, rows, text=BY_COLUMN.replace("sorted = true", ""))
    assert found == list(whole.slates())


def test_a_log_out_of_order_that_claims_to_be_sorted_is_refused(tmp_path: Path) -> None:
    rows = [{"at": at, "who": "a", "what": "x", "slate": at, "y": 0} for at in (5, 9, 7)]
    log = log_of(tmp_path, rows, text=BY_COLUMN)
    with pytest.raises(UsageError, match=r"tiny-7 comes 2 s before .* sorted = false"):
        list(log.slates())


def test_an_item_stands_once_on_a_slate_and_keeps_all_its_outcomes(tmp_path: Path) -> None:
    rows = [
        {"at": 1, "who": "a", "what": "x", "stars": 1},
        {"at": 2, "who": "a", "what": "y", "stars": 1},
        {"at": 3, "who": "a", "what": "x", "stars": 5},
    ]
    (slate,) = log_of(tmp_path, rows).slates()
    assert slate.items == ["x", "y"]
    assert [each.item for each in slate.outcomes] == ["x"]


def test_a_slate_beyond_the_most_is_cut_and_each_part_has_a_name(tmp_path: Path) -> None:
    rows = [{"at": 1, "who": "a", "what": f"i{n}", "slate": 7, "y": 0} for n in range(5)]
    found = list(log_of(tmp_path, rows, text=BY_COLUMN.replace("[slate]", "[slate]\nmost = 2")).slates())
    assert [(slate.request_id, slate.items) for slate in found] == [
        ("tiny-7", ["i0", "i1"]),
        ("tiny-7.1", ["i2", "i3"]),
        ("tiny-7.2", ["i4"]),
    ]


FEATURES = (
    BASE
    + """
[side.films]
file = "films.jsonl"
key = "id"
on = "what"
[[feature]]
name = "city"
[[feature]]
name = "genres"
of = "candidate"
kind = "strings"
side = "films"
flags = ["Action", "Drama"]
[[feature]]
name = "tags"
of = "candidate"
kind = "strings"
side = "films"
split = "|"
[[feature]]
name = "decade"
of = "candidate"
side = "films"
column = "year"
width = 10
[[feature]]
name = "length"
of = "candidate"
kind = "number"
side = "films"
[[feature]]
name = "hour"
of = "hour"
"""
)


def test_features_come_from_the_log_and_from_side_tables(tmp_path: Path) -> None:
    films = [
        {"id": "x", "Action": 1, "Drama": 1, "tags": "old | slow", "year": 1987, "length": 90.5},
        {"id": "y", "Action": 0, "Drama": 0, "tags": None, "year": 2001, "length": None},
    ]
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(film) + "\n" for film in films))
    rows = [row | {"city": "Graz"} for row in ROWS]
    log = log_of(tmp_path, rows, text=FEATURES)
    found = list(log.slates())
    assert found[0].context == {"city": "Graz"}
    assert found[0].features == {
        "genres": [["Action", "Drama"], []],
        "tags": [["old", "slow"], []],
        "decade": ["198", "200"],
        "length": [90.5, 0.0],
    }
    assert found[2].items == ["z"]
    assert found[2].features == {"genres": [[]], "tags": [[]], "decade": [""], "length": [0.0]}
    assert [feature.name for feature in log.features()] == [
        *("user", "item", "city", "genres", "tags", "decade", "length", "hour")
    ]


def test_times_come_in_any_unit_from_any_origin(tmp_path: Path) -> None:
    rows = [{"at": 1_500, "who": "a", "what": "x", "stars": 5}]
    text = BASE.replace('column = "at"', 'column = "at"\nunit = "ms"\norigin = "2020-01-01T00:00:00Z"')
    (slate,) = log_of(tmp_path, rows, text=text).slates()
    assert slate.event_time == 1_577_836_801_500_000
    rows = [{"at": "2020-01-01T00:00:01.5", "who": "a", "what": "x", "stars": 5}]
    (slate,) = log_of(tmp_path, rows).slates()
    assert slate.event_time == 1_577_836_801_500_000


@pytest.mark.parametrize(
    ("rule", "after_s"), [("delay_s = 7", 7.0), ('delay = "wait"', 2.5), ('time = "then"', 100.0), ("", 0.0)]
)
def test_an_outcome_happens_when_the_mapping_says(rule: str, after_s: float, tmp_path: Path) -> None:
    rows = [{"at": 1_000, "who": "a", "what": "x", "stars": 5, "wait": 2.5, "then": 1_100}]
    (slate,) = log_of(tmp_path, rows, text=BASE + rule).slates()
    assert [each.event_time - slate.event_time for each in slate.outcomes] == [after_s * SECOND]


def test_several_kinds_of_outcome_carry_their_values(tmp_path: Path) -> None:
    rows = [{"at": 1_000, "who": "a", "what": "x", "stars": 5, "read": 31.5}]
    text = BASE + '[[outcome]]\nwhen = "read > 10"\nkind = "dwell"\nvalue = "read"\n'
    (slate,) = log_of(tmp_path, rows, text=text).slates()
    assert [(each.kind, each.value) for each in slate.outcomes] == [("click", 1.0), ("dwell", 31.5)]


def test_a_row_without_an_item_is_refused_with_its_number(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[1] | {"what": None}]
    with pytest.raises(UsageError, match=r"log\.parquet: column what: row 1 \(from 0\) has no value"):
        list(log_of(tmp_path, rows, form="parquet").slates())


def test_ids_keep_their_digits(tmp_path: Path) -> None:
    rows = [{"at": 1, "who": "007", "what": "00", "stars": 5}]
    (slate,) = log_of(tmp_path, rows).slates()
    assert (slate.user, slate.items) == ("007", ["00"])
    with_nulls = pa.table({"at": [1.0], "who": [7.0], "what": [12.0], "stars": [5.0]})
    pa.parquet.write_table(with_nulls, tmp_path / "log.parquet")
    (slate,) = Log(tmp_path / "log.parquet", log_of(tmp_path).mapping).slates()
    assert (slate.user, slate.items) == ("7", ["12"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.xlsx"
    path.write_text("")
    with pytest.raises(UsageError, match=r"must end in \.parquet"):
        list(Log(path, log_of(tmp_path).mapping).slates())


def test_samples_carry_the_final_labels_of_their_window(tmp_path: Path) -> None:
    rows = [
        {"at": 1_000, "who": "a", "what": "x", "stars": 5, "then": 1_010},
        {"at": 1_000, "who": "a", "what": "y", "stars": 5, "then": 9_000},
    ]
    log = log_of(tmp_path, rows, text=BASE.replace("[time]", "window_s = 60\n[time]", 1) + 'time = "then"')
    (sample,) = samples(log)
    assert sample.items == ["x", "y"]
    assert sample.emissions == [POSITIVE, NEGATIVE]
    assert sample.positions == [0, 1]
