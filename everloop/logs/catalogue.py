"""A log by its name or its path, and the mapping that goes with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from everloop.logs import movielens
from everloop.logs.mapping import Mapping, load
from everloop.logs.slates import Log
from feedback.errors import UsageError

MAPPINGS: Final = Path(__file__).resolve().parent.parent / "mappings"
"""Where the mapping files that everloop ships lie."""


def tell(line: str) -> None:
    """Say something to the person at the terminal; standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def shipped() -> dict[str, Path]:
    """The mapping files that everloop ships, by name."""
    return {path.stem: path for path in sorted(MAPPINGS.glob("*.toml"))}


def find(log: str, mapping: str = "", *, say: Callable[[str], None] = tell) -> Log:
    """Return a log: `movielens`, or a path and a mapping (a file, or the name of a shipped one).

    Without a mapping, the one that lies beside the log as LOG.toml is taken.

    Raises:
        UsageError: there is no such log, or nothing says how to read it.
        ConfigError: the mapping is wrong.
        UnavailableError: MovieLens is to be fetched and can't be.
    """
    if log == "movielens" and not Path(log).exists():
        described = load(_mapping(mapping or "movielens", Path(log)))
        return Log(movielens.fetch(say=say, terms=_terms(described)), described)
    path = Path(log)
    if not path.exists():
        raise UsageError(f"{log}: no such file; a log is a path, or movielens")
    described = load(_mapping(mapping, path))
    if described.terms:
        say(f"{path.name}: {_terms(described)}")
    return Log(path, described)


def _mapping(mapping: str, log: Path) -> Path:
    if mapping in shipped():
        return shipped()[mapping]
    if mapping:
        return Path(mapping)
    beside = log.with_name(f"{log.name}.toml")
    if beside.is_file():
        return beside
    names = ", ".join(shipped())
    raise UsageError(
        f"{log}: which column is what? Say --mapping FILE (or a shipped one: {names}), or write {beside.name}"
    )


def _terms(mapping: Mapping) -> str:
    owner = f"Owner: {mapping.owner}. " if mapping.owner else ""
    return f"{owner}Terms: {' '.join(mapping.terms.split())}"
