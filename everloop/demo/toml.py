"""Settings as TOML text: tables, strings, numbers, truth values and lists of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_BARE: Final = re.compile(r"^[A-Za-z0-9_-]+$")


def tree(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested tables.

    >>> tree({"a.b": 1, "a.c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    found: dict[str, Any] = {}
    for key, value in dotted.items():
        *path, last = key.split(".")
        table = found
        for name in path:
            table = table.setdefault(name, {})
        table[last] = value
    return found


def text(table: Mapping[str, Any]) -> str:
    """Write a tree of tables.

    >>> print(text({"x": 1, "a": {"b": [True, "c"]}}))
    x = 1
    <BLANKLINE>
    [a]
    b = [true, "c"]
    """
    return "\n".join(_lines(table, ())).strip()


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    if path and plain:
        yield f"\n[{'.'.join(map(_key, path))}]"
    yield from (f"{_key(name)} = {_value(value)}" for name, value in plain.items())
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, name))


def _key(name: str) -> str:
    return name if _BARE.match(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
