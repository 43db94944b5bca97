"""The pages that are made from the code: what makes each, so that a test can say when one is stale."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec.structs

from everloop import results
from everloop.config.compose import Config
from everloop.config.convert import Key, dotted, hints, is_table
from everloop.config.load import PREFIX, SEPARATOR, shown
from everloop.config.ranges import describe
from feedback import asyncapi
from feedback.docstrings import field_docs
from feedback.settings import Secret
from k8s.monitoring import dashboard

ROOT = Path(__file__).parent.parent

_CONFIGURATION = """\
# Configuration

Made from the code by `make docs`; the words are those of each part's `settings` module.

One file, `everloop.toml`: the one named by `--config` or `$EVERLOOP_CONFIG`, else the one in the current folder, else the
one in the data folder. Variables override it: `[kafka] partitions = 3` is `EVERLOOP_KAFKA__PARTITIONS=3`, tables and their
keys joined by two underscores; what is not text is written as in TOML or JSON. `everloop config` prints what is in force
and where each value came from.
"""


def configuration() -> str:
    """Return docs/configuration.md: every group, every setting, its range, default and meaning."""
    return "\n".join([_CONFIGURATION, *_group(Config, ())]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration,
    "docs/asyncapi.yaml": asyncapi.text,
    "docs/results.md": results.page,
    "k8s/monitoring/dashboard/everloop.json": dashboard.text,
}
"""Every page that is made from the code, and by what."""


def write(root: Path = ROOT) -> list[str]:
    """Write every page anew; return those that changed."""
    changed = []
    for name, make in PAGES.items():
        path, text = root / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def _group(cls: Any, key: Key) -> Iterator[str]:
    words, annotations = words_of(cls), hints(cls)
    leaves = [name for name in annotations if not is_table(annotations[name])]
    if key and leaves:
        yield f"## [{dotted(key)}]\n\n{_first_paragraph(cls)}\n"
        yield f"| key | allowed | default | meaning |\n|---|---|---|---|\n{_rows(cls, leaves, annotations, words)}\n"
    for name, annotation in annotations.items():
        if is_table(annotation):
            yield from _group(annotation, (*key, name))
        elif (below := _table_inside(annotation)) is not None:
            yield from _group(below, (*key, name, "NAME" if get_origin(annotation) is dict else "N"))


def _rows(cls: Any, names: list[str], annotations: dict[str, Any], words: dict[str, str]) -> str:
    defaults = _defaults(cls)
    rows = (
        f"| `{name}` | {_cell(describe(annotations[name]))} | {_code(defaults.get(name, ''))} | {_cell(words.get(name, ''))} |"
        for name in names
    )
    return "\n".join(rows)


def _defaults(cls: Any) -> dict[str, str]:
    """Return the defaults as text; those of secrets stand in the source, so they are none."""
    if not is_dataclass(cls):
        found = {each.name: each.default for each in msgspec.structs.fields(cls) if not each.required}
    else:
        found = {each.name: each.default for each in fields(cls) if each.default is not MISSING}
        found |= {each.name: each.default_factory() for each in fields(cls) if each.default_factory is not MISSING}
    return {name: str(value) if isinstance(value, Secret) else shown(value) for name, value in found.items()}


def _table_inside(annotation: Any) -> Any:
    return (
        next((each for each in get_args(annotation) if is_table(each)), None)
        if get_origin(annotation) in (dict, tuple)
        else None
    )


def words_of(cls: Any) -> dict[str, str]:
    """Return the docstring under each field of a class, on one line."""
    return field_docs(sys.modules[cls.__module__]).get(cls.__name__, {})


def _first_paragraph(cls: Any) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def variable(key: Key) -> str:
    """Return the environment variable that sets a key."""
    return PREFIX + SEPARATOR.join(key).upper()
