"""A log as slates in the order of their time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from everloop.logs import groups
from everloop.logs.columns import Side, Times, feature_columns, numbers, texts, times
from everloop.logs.conditions import parse
from everloop.logs.history import remembered
from everloop.logs.mapping import Mapping, OutcomeRule
from everloop.logs.tables import batches
from feedback.clock import SECOND, to_us
from feedback.errors import UsageError
from feedback.events import Value
from feedback.features import Feature


class Happened(NamedTuple):
    """What the reader did with one item."""

    item: str
    kind: str
    value: float
    event_time: int
    """µs."""


@dataclass(frozen=True)
class Slate:
    """What was shown to one reader at one moment, and what they did with it."""

    request_id: str
    """The log's name and the slate's number in the order of time, or its name in the log."""
    user: str
    event_time: int
    """µs: the first of its rows."""
    items: list[str]
    """Each once, in the log's order."""
    context: dict[str, Value] = field(default_factory=dict)
    features: dict[str, list[Value]] = field(default_factory=dict)
    """One value per item."""
    outcomes: list[Happened] = field(default_factory=list)
    """In the order of their time."""


@dataclass(frozen=True)
class Log:
    """A log and the mapping that describes it."""

    path: Path
    """A file, or a folder with the mapping's `file`."""
    mapping: Mapping

    @property
    def file(self) -> Path:
        """The file with the log's rows."""
        if not self.path.is_dir():
            return self.path
        if not self.mapping.file:
            raise UsageError(f"{self.path} is a folder, and {self.mapping.path} names no file in it")
        return self.path / self.mapping.file

    @property
    def folder(self) -> Path:
        """Where the side tables' paths begin."""
        return self.file.parent

    def features(self) -> tuple[Feature, ...]:
        """The feature specification of a model of this log."""
        return self.mapping.features()

    def slates(self, *, limit: int = 0) -> Iterator[Slate]:
        """Yield the slates in the order of their time, at most `limit` (0: all).

        Raises:
            ConfigError: the mapping does not fit the file.
            UsageError: the file can't be read, or a row has no time, reader or item.
        """
        found = self._streamed() if self.mapping.sorted else self._whole()
        return itertools.islice(remembered(found, self.mapping), limit or None)

    @cached_property
    def _sides(self) -> dict[str, Side]:
        mapping = self.mapping
        sides = {}
        for name, rule in mapping.side.items():
            features = [each for each in mapping.feature if each.side == name]
            kept = batches(self.folder / rule.file, mapping.side_columns(name), mapping=mapping, texts=[rule.key])
            sides[name] = Side(pa.concat_tables(kept), rule, features)
        return sides

    def _tables(self) -> Iterator[Any]:
        mapping = self.mapping
        ids = [mapping.user, mapping.item, *([mapping.slate.column] if mapping.slate.column else [])]
        strings = [
            rule.columns()[0]
            for rule in mapping.feature
            if not rule.side and rule.kind == "string" and not rule.derived
        ]
        plain = [column for column in (*ids, *strings) if column not in self._measured()]
        return batches(self.file, mapping.columns(), mapping=mapping, texts=plain)

    def _measured(self) -> set[str]:
        """Columns that must be read as numbers, whatever else they serve as."""
        rules = self.mapping.outcome
        widths = [rule.columns()[0] for rule in self.mapping.feature if rule.width]
        return {self.mapping.time.column, *widths, *(parse(rule.when).column for rule in rules)}

    def _whole(self) -> Iterator[Slate]:
        tables = list(self._tables())
        if not tables:
            return
        table = pa.concat_tables(tables).combine_chunks()
        with _named(self.file):
            order, starts = self._grouped(table)
        ends = np.append(starts[1:], len(order))
        per = max(1, self.mapping.batch // max(1, int(np.diff(np.append(starts, len(order))).max(initial=1))))
        for at in range(0, len(starts), per):
            low, high = starts[at], ends[min(at + per, len(starts)) - 1]
            yield from self._slates(table.take(pa.array(order[low:high])), starts[at : at + per] - low, number=at)

    def _grouped(self, table: Any) -> tuple[Times, Times]:
        rule = self.mapping.slate
        when = times(table, self.mapping.time.column, self.mapping.time)
        codes = texts(table, rule.column or self.mapping.user).dictionary_encode().indices.to_numpy()
        if rule.column:
            return groups.by_column(codes, when, most=rule.most)
        return groups.by_gap(codes, when, gap_us=to_us(rule.gap_s), most=rule.most)

    def _streamed(self) -> Iterator[Slate]:
        """Rows of a slate are adjacent and in order: hold back each chunk's last slate until the next one has come."""
        held: Any = None
        number, reached = 0, 0
        for chunk in itertools.chain(self._tables(), [None]):
            rows = [each for each in (held, chunk) if each is not None]
            if not rows:
                return
            table = pa.concat_tables(rows).combine_chunks()
            codes = texts(table, self.mapping.slate.column).dictionary_encode().indices.to_numpy()
            starts = groups.adjacent(codes, most=self.mapping.slate.most)
            cut = len(codes) if chunk is None else _last(codes)
            held = table.slice(cut)
            if not cut:
                continue
            whole = starts[starts < cut]
            for slate in self._slates(table.slice(0, cut), whole, number=number):
                if slate.event_time < reached:
                    raise UsageError(
                        f"{self.file}: slate {slate.request_id} comes {(reached - slate.event_time) / SECOND:g} s before "
                        f"the one before it; sort the file, or set sorted = false in {self.mapping.path}"
                    )
                reached = slate.event_time
                yield slate
            number += len(whole)

    def _slates(self, table: Any, starts: Times, *, number: int) -> Iterator[Slate]:
        """Make the slates of one table whose rows stand in their order."""
        mapping = self.mapping
        with _named(self.file):
            when = times(table, mapping.time.column, mapping.time)
            users, items = (texts(table, column).to_pylist() for column in (mapping.user, mapping.item))
            names = texts(table, mapping.slate.column).to_pylist() if mapping.slate.column else None
            columns = feature_columns(table, mapping.feature, self._sides)
            done = _outcomes(table, when, items, mapping)
        ends = [*starts[1:].tolist(), len(items)]
        context = [rule.name for rule in mapping.feature if rule.of == "context"]
        candidate = [rule.name for rule in mapping.feature if rule.of == "candidate"]
        firsts = np.minimum.reduceat(when, starts).tolist()
        seen = ""
        part = 0
        for at, (low, high) in enumerate(zip(starts.tolist(), ends, strict=True)):
            rows: Any = range(low, high)
            shown = items[low:high]
            if len(set(shown)) < len(shown):
                rows = sorted({items[row]: row for row in reversed(rows)}.values())
                shown = [items[row] for row in rows]
            name = names[low] if names else str(number + at)
            part = part + 1 if names and name == seen else 0
            seen = name
            happened = [each for row in range(low, high) for each in done.get(row, ())]
            happened.sort(key=lambda each: each.event_time)
            yield Slate(
                request_id=f"{mapping.name}-{name}" + (f".{part}" if part else ""),
                user=users[low],
                event_time=firsts[at],
                items=shown,
                context={each: columns[each][low] for each in context},
                features={each: [columns[each][row] for row in rows] for each in candidate},
                outcomes=happened,
            )


def _last(codes: Any) -> int:
    """Where the run of equal values at the end begins."""
    other = np.flatnonzero(codes != codes[-1])
    return int(other[-1]) + 1 if len(other) else 0


def _outcomes(table: Any, when: Times, items: list[str], mapping: Mapping) -> dict[int, list[Happened]]:
    """What happened, by row."""
    found: dict[int, list[Happened]] = {}
    for rule in mapping.outcome:
        condition = parse(rule.when)
        rows = np.flatnonzero(np.asarray(condition.mask(table[condition.column])))
        moments = _moments(table, when, rule, mapping)[rows].tolist()
        sizes = numbers(table, rule.value)[rows].tolist() if rule.value else [1.0] * len(rows)
        for row, moment, size in zip(rows.tolist(), moments, sizes, strict=True):
            found.setdefault(row, []).append(Happened(items[row], rule.kind, size, moment))
    return found


def _moments(table: Any, when: Times, rule: OutcomeRule, mapping: Mapping) -> Times:
    if rule.time:
        return times(table, rule.time, mapping.time)
    if rule.delay:
        return when + np.rint(np.nan_to_num(numbers(table, rule.delay)) * SECOND).astype(np.int64)
    return when + to_us(rule.delay_s)


class _named:
    """Put the file's name before what is wrong in it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (UsageError, pa.ArrowException, ValueError)):
            raise UsageError(f"{self._file}: {error}") from error
