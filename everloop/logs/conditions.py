"""The `when` of an outcome: COLUMN OPERATOR VALUE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_FORM: Final = re.compile(r"^\s*(?P<column>\S(?:.*?\S)?)\s*(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+?)\s*$")
_FUNCTIONS: Final = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


@dataclass(frozen=True)
class Condition:
    """A comparison of one column with one value."""

    column: str
    operator: str
    value: str

    def mask(self, column: Any) -> Any:
        """Say for each value of an Arrow column whether the condition holds; for a null it does not.

        Raises:
            pyarrow.ArrowInvalid: the value can't be read as the column's type.
        """
        value = self.value
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            right = pa.scalar(value.strip("'\""), column.type)
        elif pa.types.is_boolean(column.type):
            right = pa.scalar(value.lower() in ("true", "1"))
        else:
            right = pa.scalar(float(value), pa.float64())
            column = column.cast(pa.float64())
        return pc.fill_null(_FUNCTIONS[self.operator](column, right), False)


def parse(text: str) -> Condition:
    """Read a condition.

    >>> parse("rating >= 4")
    Condition(column='rating', operator='>=', value='4')

    Raises:
        ValueError: the text has another form; the message says which form is meant.
    """
    found = _FORM.match(text)
    if found is None:
        raise ValueError("COLUMN OPERATOR VALUE with one of == != < <= > >=, e.g. rating >= 4")
    return Condition(found["column"], found["operator"], found["value"])
