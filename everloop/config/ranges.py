"""A field's type and range in the words of an error message."""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta, Struct

_NAMES: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
}


def describe(annotation: Any) -> str:
    """Say what is allowed, e.g. `a number above 0` or `one of "a", "b"`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *(_bounds(each) for each in arguments[1:] if isinstance(each, Meta))])
    if origin is Literal:
        return "one of " + ", ".join(_quoted(each) for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if each is type(None) else describe(each) for each in arguments)
    if origin in (list, tuple, set, frozenset):
        return "a list" + "".join(f" of: {describe(each)}" for each in arguments[:1])
    if origin is dict:
        return f"a table of: {describe(arguments[1])}"
    return _plain(annotation)


def _plain(annotation: Any) -> str:
    supertype = getattr(annotation, "__supertype__", None)
    if supertype is not None:
        return describe(supertype)
    if is_dataclass(annotation) or (isinstance(annotation, type) and issubclass(annotation, Struct)):
        return "a table"
    if isinstance(annotation, type) and issubclass(annotation, str):
        return _NAMES[str]
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(meta: Meta) -> str:
    return ", ".join(_bound_words(meta))


def _bound_words(meta: Meta) -> Iterable[str]:
    if meta.gt is not None:
        yield f"above {meta.gt}"
    if meta.ge is not None and meta.le is not None:
        yield f"from {meta.ge} to {meta.le}"
    elif meta.ge is not None:
        yield f"that is {meta.ge} or more"
    elif meta.le is not None:
        yield f"that is {meta.le} or less"
    if meta.lt is not None:
        yield f"below {meta.lt}"
    if meta.pattern is not None:
        yield f"that matches {meta.pattern}"
    if meta.min_length is not None:
        yield f"of {meta.min_length} or more"
    if meta.max_length is not None:
        yield f"of {meta.max_length} or fewer"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
