from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from everloop.logs.catalogue import shipped
from everloop.logs.conditions import parse
from everloop.logs.mapping import load
from feedback.errors import ConfigError
from tests.everloop_logs.build import BASE, log_of


@dataclass(frozen=True)
class Wrong:
    """A change of a good mapping, and what the message must name."""

    old: str
    new: str
    key: str
    allowed: str


WRONG = [
    Wrong('user = "who"', 'usr = "who"', "usr", "did you mean user?"),
    Wrong('user = "who"', "", "user", "must be set"),
    Wrong("gap_s = 60", "gap_s = -1", "slate.gap_s", "0 or more"),
    Wrong("gap_s = 60", "gap_s = 0", "slate", "either column or gap_s"),
    Wrong("gap_s = 60", 'gap_s = 60\ncolumn = "s"', "slate", "either column or gap_s"),
    Wrong("gap_s = 60", "gap_s = 60\nmost = 2000", "slate.most", "from 1 to 1000"),
    Wrong('name = "tiny"', 'name = "Tiny Log"', "name", "matches"),
    Wrong('name = "tiny"', 'name = "tiny"\nsorted = true', "sorted", "only with slate.column"),
    Wrong('name = "tiny"', 'name = "tiny"\npositive = "buy"', "positive", "['click']"),
    Wrong('name = "tiny"', 'name = "tiny"\ncrosses = ["user*age"]', "crosses", "different features of"),
    Wrong('column = "at"', 'column = "at"\nunit = "min"', "time.unit", "one of"),
    Wrong('column = "at"', 'column = "at"\norigin = "yesterday"', "time.origin", "ISO 8601"),
    Wrong("stars >= 4", "four stars", "outcome.0.when", "COLUMN OPERATOR VALUE"),
    Wrong('when = "stars >= 4"', 'when = "stars >= 4"\ndelay = "d"\ndelay_s = 3', "outcome.0", "only one of"),
    Wrong("[slate]", '[[feature]]\nname = "item"\n[slate]', "feature.0.name", "not user or item"),
    Wrong("[slate]", '[[feature]]\nname = "g"\nkind = "strings"\n[slate]', "feature.0.kind", "split and flags"),
    Wrong("[slate]", '[[feature]]\nname = "g"\nside = "films"\n[slate]', "feature.0.side", "side tables"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case.key}:{case.new[:24]}")
def test_a_wrong_mapping_is_refused_with_file_key_and_what_is_allowed(case: Wrong, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert case.old in BASE
    path.write_text(BASE.replace(case.old, case.new))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert (caught.value.file, caught.value.key) == (str(path), case.key)
    assert case.allowed in str(caught.value)


def test_a_column_that_the_log_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    log = log_of(tmp_path, text=BASE.replace('item = "what"', 'item = "article"'))
    with pytest.raises(ConfigError, match=r"item = 'article': a column of log\.csv: at, who, what, stars"):
        list(log.slates())


def test_the_shipped_mappings_are_right_and_say_their_terms() -> None:
    assert set(shipped()) == {"movielens", "news", "ratings"}
    for path in shipped().values():
        mapping = load(path)
        assert mapping.terms
        assert mapping.features()[:2] == mapping.features()[:2]
        assert {feature.name for feature in mapping.features()} >= {"user", "item"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rating >= 4", ("rating", ">=", "4")),
        ("y==1", ("y", "==", "1")),
        ("event type != 'view'", ("event type", "!=", "'view'")),
    ],
)
def test_a_condition_has_a_column_an_operator_and_a_value(text: str, parts: tuple[str, str, str]) -> None:
    found = parse(text)
    assert (found.column, found.operator, found.value) == parts
