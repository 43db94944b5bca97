"""A table's columns as times, ids and feature values, vectorised: no Python per row before the values are lists."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop.logs.mapping import FeatureRule, SideTable, TimeColumn
from feedback.errors import UsageError
from feedback.events import Value

Times = NDArray[np.int64]

_MICROS: Final = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}


def times(table: Any, column: str, rule: TimeColumn) -> Times:
    """One column as µs since the Unix epoch. Raises UsageError where a row has none or one before 1970."""
    values = table[column]
    if pa.types.is_timestamp(values.type) or pa.types.is_string(values.type):
        micros = _complete(values.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), column).to_numpy()
    else:
        numbers = _complete(values, column).to_numpy()
        if numbers.dtype.kind in "iu" and rule.unit != "ns":
            micros = numbers.astype(np.int64) * int(_MICROS[rule.unit]) + rule.origin_us()
        else:
            micros = np.rint(numbers * _MICROS[rule.unit]).astype(np.int64) + rule.origin_us()
    if len(micros) and micros.min() < 0:
        raise UsageError(
            f"column {column}: row {int(micros.argmin())} lies before 1970: check time.unit and time.origin"
        )
    return np.asarray(micros, dtype=np.int64)


def texts(table: Any, column: str) -> Any:
    """One column as Arrow strings. Raises UsageError where a row has none."""
    return _complete(_text(table[column]), column)


def numbers(table: Any, column: str) -> NDArray[np.float64]:
    """One column as floats; a null is NaN."""
    return np.asarray(table[column].cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False))


def values(table: Any, rule: FeatureRule) -> list[Value]:
    """A feature's value in each row; a null becomes "", [] or 0."""
    if rule.flags:
        flags = np.stack([numbers(table, column) for column in rule.flags], axis=1)
        names = np.array(rule.flags, dtype=object)
        return [names[row].tolist() for row in np.nan_to_num(flags) != 0]
    column = table[rule.columns()[0]]
    if rule.kind == "number":
        return list(np.nan_to_num(numbers(table, rule.columns()[0])).tolist())
    if rule.split:
        return [[each.strip() for each in text.split(rule.split) if each.strip()] for text in _filled(column)]
    if rule.width:
        buckets = pc.floor(pc.divide(column.cast(pa.float64()), rule.width))
        return _filled(buckets.cast(pa.int64()))
    return _filled(column)


class Side:
    """One side table in memory: a feature's values by row, and which row belongs to which row of the log."""

    def __init__(self, table: Any, rule: SideTable, features: list[FeatureRule]) -> None:
        self._keys, self._on = _text(table[rule.key]).combine_chunks(), rule.on
        self._values: dict[str, list[Value]] = {}
        for feature in features:
            column = values(table, feature)
            empty: Value = "" if feature.kind == "string" else [] if feature.kind == "strings" else 0.0
            self._values[feature.name] = [*column, empty]

    def look_up(self, table: Any) -> dict[str, list[Value]]:
        """Each feature's value in each row of the log's table; what the side table does not know is empty."""
        rows = pc.fill_null(pc.index_in(_text(table[self._on]), value_set=self._keys), -1).to_pylist()
        return {name: [column[row] for row in rows] for name, column in self._values.items()}


def feature_columns(table: Any, rules: tuple[FeatureRule, ...], sides: Dict[str, Side]) -> dict[str, list[Value]]:
    """Every feature's values, one per row of the log's table."""
    found = {rule.name: values(table, rule) for rule in rules if not rule.side and not rule.derived}
    for side in sides.values():
        found |= side.look_up(table)
    return found


def _text(column: Any) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    # A column of whole numbers with nulls comes out of pandas as floats: 12.0 is the same reader as 12.
    if pa.types.is_floating(kind) and pc.all(pc.equal(pc.floor(column), column)).as_py():
        column = column.cast(pa.int64())
    return column.cast(pa.string())


def _filled(column: Any) -> list[Any]:
    return list(pc.fill_null(_text(column), "").to_pylist())


def _complete(column: Any, name: str) -> Any:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise UsageError(f"column {name}: row {row} (from 0) has no value: every row needs one")
    return column.combine_chunks()
