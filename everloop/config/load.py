"""Read the configuration once: defaults, then the file, then the environment, then flags."""

from __future__ import annotations

import json
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from everloop.config.compose import Config
from everloop.config.convert import Key, annotation_of, build, dotted
from feedback.errors import ConfigError
from feedback.settings import Secret

PREFIX = "EVERLOOP_"
SEPARATOR = "__"
FILENAME = "everloop.toml"


@dataclass(frozen=True)
class Loaded:
    """A configuration, and for each value that is not a default, where it came from."""

    config: Config
    origins: Mapping[str, str]
    """Dotted key to file name, variable or flag; absent: the default."""
    file: Path | None
    """The file that was read."""

    def given(self, key: str) -> bool:
        """Say whether somebody set this key or something below it."""
        return any(each == key or each.startswith(key + ".") for each in self.origins)

    def table(self) -> list[tuple[str, str, str]]:
        """Return key, value as text and origin of every setting; secrets are `***`."""
        return [(key, shown(value), self._origin(key)) for key, value in walk(self.config)]

    def _origin(self, key: str) -> str:
        below = (origin for each, origin in self.origins.items() if each.startswith(key + "."))
        return self.origins.get(key) or next(below, "default")


def load(
    file: Path | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read, merge and validate; `flags` are dotted keys that overrule all else.

    Raises:
        ConfigError: one line that names the file (or variable, or flag), the key, the value and what is allowed.
    """
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        tree = _read(file)
        origins = {dotted(key): str(file) for key in _leaves(tree)}
    for variable, key, value in _variables(environ):
        _put(tree, key, value)
        origins[dotted(key)] = variable
    for name, value in (flags or {}).items():
        _put(tree, tuple(name.split(".")), value)
        origins[name] = f"--{name}"
    try:
        return Loaded(build(Config, tree), origins, file)
    except ConfigError as error:
        raise ConfigError(
            file=_blame(error.key, origins, str(file or FILENAME)),
            key=error.key,
            value=error.value,
            allowed=error.allowed,
        ) from error


def walk(settings: Any, key: Key = ()) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and value of every setting, depth first."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        here = (*key, each.name)
        if is_dataclass(value):
            yield from walk(value, here)
        else:
            yield dotted(here), value


def shown(value: Any) -> str:
    """Write a value for people; a secret never."""
    if isinstance(value, Secret):
        return "***" if value else ""
    if isinstance(value, bool | list | tuple | dict | msgspec.Struct):
        return msgspec.json.encode(value).decode()
    return str(value)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            file=str(file), key="file", value=str(file), allowed=error.strerror or "unreadable"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file=str(file), key="file", value=file.name, allowed=f"must be TOML: {error}") from error


def _leaves(tree: Mapping[str, Any], key: Key = ()) -> Iterator[Key]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*key, name))
        else:
            yield (*key, name)


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Key, Any]]:
    for variable, text in sorted(environ.items()):
        # Kubernetes sets EVERLOOP_GATEWAY_SERVICE_HOST and the like: without a double underscore it is not ours.
        if variable.startswith(PREFIX) and SEPARATOR in variable:
            key = tuple(variable[len(PREFIX) :].lower().split(SEPARATOR))
            yield variable, key, _parsed(variable, key, text)


def _parsed(variable: str, key: Key, text: str) -> Any:
    try:
        annotation = annotation_of(Config, key)
    except ConfigError as error:
        raise ConfigError(file=variable, key=error.key, value=text, allowed=error.allowed) from error
    return text if _takes_text(annotation) else _literal(text)


def _literal(text: str) -> Any:
    """Read JSON or a TOML value; what is neither stays text, and is refused where text is not allowed."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _takes_text(annotation: Any) -> bool:
    """Whether text is taken as it stands: for a string, a path or a choice of words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes_text(arguments[0])
    if origin is Literal:
        return all(isinstance(each, str) for each in arguments)
    if origin in (Union, types.UnionType):
        return any(_takes_text(each) for each in arguments)
    kind = getattr(annotation, "__supertype__", annotation)
    return isinstance(kind, type) and issubclass(kind, str | Path)


def _put(tree: dict[str, Any], key: Key, value: Any) -> None:
    for name in key[:-1]:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[key[-1]] = value


def _blame(key: str, origins: Mapping[str, str], fallback: str) -> str:
    """Return where the value at a key came from, or what lies above or below it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (above := ".".join(parts[:length])) in origins:
            return origins[above]
    return next((origin for each, origin in origins.items() if each.startswith(key + ".")), fallback)
