"""The pages that are made from the code say what the code says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from everloop import docs
from everloop.config.compose import Config
from everloop.config.convert import hints, is_table


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_page_is_not_stale(name: str) -> None:
    path = docs.ROOT / name
    assert path.read_text(encoding="utf-8") == docs.PAGES[name](), f"{name} is stale: make docs"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A group."""

    wordy: int = 1
    """Says what it is
    on two lines."""
    silent: int = 2


def test_the_words_under_a_field_are_its_meaning() -> None:
    assert docs.words_of(Sample) == {"wordy": "Says what it is on two lines."}


def groups(cls: Any, key: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = [(key, cls)]
    for name, annotation in hints(cls).items():
        if is_table(annotation):
            found += groups(annotation, (*key, name))
    return found


@pytest.mark.parametrize(("key", "cls"), groups(Config), ids=lambda each: getattr(each, "__name__", ""))
def test_every_setting_has_a_meaning(key: tuple[str, ...], cls: Any) -> None:
    assert set(hints(cls)) == set(docs.words_of(cls)), f"[{'.'.join(key)}]: a field has no docstring under it"
