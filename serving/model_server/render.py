"""JSON values to text: for error messages, cut and never recursing; and numbers with the digits they need."""

from __future__ import annotations

import json
import math
from typing import Any

LIMIT = 256
"""Bytes of a value that an error text repeats."""


def render(value: Any, *, limit: int = LIMIT) -> str:
    """A value as JSON text for an error, cut where it grows too long; never recurses."""
    parts: list[str] = []
    length = 0
    stack: list[Any] = [(value,)]
    while stack and length <= limit:
        item = stack.pop()
        if isinstance(item, str):
            text = item
        else:
            text = _start(item[0], stack)
        parts.append(text)
        length += len(text)
    text = "".join(parts)
    return text if len(text) <= limit else text[:limit] + "...TRUNCATED"


def _start(value: Any, stack: list[Any]) -> str:
    """The first text of a value; the rest of it goes onto the stack, last part first."""
    if isinstance(value, list):
        rest: list[Any] = []
        for index, inner in enumerate(value[: LIMIT + 1]):
            rest += [","] * (index > 0) + [(inner,)]
        stack.extend(reversed([*rest, "]"]))
        return "["
    if isinstance(value, dict):
        rest = []
        for index, (key, inner) in enumerate(value.items()):
            if index > LIMIT:
                break
            rest += [","] * (index > 0) + [json.dumps(key, ensure_ascii=False) + ":", (inner,)]
        stack.extend(reversed([*rest, "}"]))
        return "{"
    if isinstance(value, float):
        return decimal(value)
    return json.dumps(value, ensure_ascii=False)


def decimal(value: float, *, digits: int = 17) -> str:
    """A number as the official server writes it: six digits if they give the number back, else all it needs."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if float(text) != value:
        text = f"{value:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


def type_name(value: Any) -> str:
    """The name of a JSON value's type, as error texts have it."""
    match value:
        case None:
            return "Null"
        case bool():
            return "True" if value else "False"
        case dict():
            return "Object"
        case list():
            return "Array"
        case str():
            return "String"
        case _:
            return "Number"
