"""From a tree of plain values to frozen settings, or one line that names key, value and what is allowed."""

from __future__ import annotations

import difflib
import math
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import msgspec.structs

from everloop.config.ranges import describe
from feedback.errors import ConfigError
from feedback.settings import Secret

T = TypeVar("T")
Key = tuple[str, ...]


def dotted(key: Key) -> str:
    """Write a key as in messages: `runtime.kafka.port`."""
    return ".".join(key)


def is_table(annotation: Any) -> bool:
    """Say whether an annotation is a group of settings: a dataclass or a msgspec Struct."""
    return isinstance(annotation, type) and (is_dataclass(annotation) or issubclass(annotation, msgspec.Struct))


def hints(cls: Any) -> dict[str, Any]:
    """Return the annotation of each field of a dataclass, resolved, with its range."""
    return get_type_hints(cls, include_extras=True)


def annotation_of(cls: type, key: Key) -> Any:
    """Return the annotation at a key.

    Raises:
        ConfigError: there is no such key; the message lists those that exist, nearest first.
    """
    annotation: Any = cls
    for depth, name in enumerate(key):
        if is_table(annotation):
            if name not in hints(annotation):
                raise unknown(key[: depth + 1], annotation)
            annotation = hints(annotation)[name]
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            raise ConfigError(key=dotted(key), value="…", allowed=f"{dotted(key[:depth])} is {describe(annotation)}")
    return annotation


def unknown(key: Key, cls: type, value: object = "…") -> ConfigError:
    """Make the error for a key that `cls` does not have."""
    names = list(hints(cls))
    near = difflib.get_close_matches(key[-1], names, n=1)
    known = f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"
    return ConfigError(key=dotted(key), value=value, allowed=f"unknown key; {known}")


def convert(annotation: Any, value: Any, key: Key = ()) -> Any:
    """Convert one plain value to its annotation.

    Raises:
        ConfigError: it is of another type, outside its range, or a table with an unknown key.
    """
    if is_table(annotation):
        return build(annotation, value, key)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict and is_table(arguments[1]) and isinstance(value, dict):
        return {name: convert(arguments[1], each, (*key, name)) for name, each in value.items()}
    if origin is tuple and is_table(arguments[0]) and isinstance(value, list):
        return tuple(convert(arguments[0], each, (*key, str(at))) for at, each in enumerate(value))
    return _leaf(annotation, value, key)


def build(cls: type[T], value: Any, key: Key = ()) -> T:
    """Build settings from a table: absent keys get their defaults, and `check` has the last word.

    Raises:
        ConfigError: as `convert`, or what the class's own `check` finds.
    """
    if not isinstance(value, dict):
        raise ConfigError(key=dotted(key), value=value, allowed=f"must be a table [{dotted(key)}]")
    annotations = hints(cls)
    for name in value:
        if name not in annotations:
            raise unknown((*key, name), cls, value[name])
    given = {name: convert(annotations[name], each, (*key, name)) for name, each in value.items()}
    for name in _required(cls):
        if name not in given:
            raise ConfigError(key=dotted((*key, name)), value=None, allowed="must be set")
    built = cls(**given)
    check = getattr(built, "check", None)
    # A check that needs another group's settings is called by whoever composes both.
    if check is not None and not _needs_more(check):
        check()
    return built


def _required(cls: Any) -> list[str]:
    if is_dataclass(cls):
        return [each.name for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING]
    return [each.name for each in msgspec.structs.fields(cls) if each.required]


def _needs_more(check: Any) -> bool:
    return any(each.default is Parameter.empty for each in signature(check).parameters.values())


def _leaf(annotation: Any, value: Any, key: Key) -> Any:
    refused = ConfigError(key=dotted(key), value=value, allowed=f"must be {describe(annotation)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise refused
    try:
        return msgspec.convert(value, type=annotation, dec_hook=_from_string)
    except msgspec.ValidationError as error:
        raise refused from error


def _from_string(kind: type, value: Any) -> Any:
    if not isinstance(value, str) or kind not in (Path, Secret):
        raise ValueError(f"expected a string, got {value!r}")
    return kind(value)
