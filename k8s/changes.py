"""How two objects differ, as far as people have said it: what the server adds by itself is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from k8s.objects import Key, Object

_SERVERS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One object that an apply would create, change or remove."""

    key: Key
    fields: tuple[str, ...]
    """`path: before → after`, one each; empty: it would be created, or removed."""
    gone: bool = False
    """Whether it would be removed."""

    def __str__(self) -> str:
        what = "remove" if self.gone else "change" if self.fields else "create"
        return "\n".join([f"{self.key}: {what}", *(f"  {each}" for each in self.fields)])


def differences(before: Object, after: Object) -> tuple[str, ...]:
    """Name each field that differs.

    >>> differences({"spec": {"replicas": 1}}, {"spec": {"replicas": 2, "paused": True}})
    ('spec.paused: absent → true', 'spec.replicas: 1 → 2')
    """
    return tuple(_walk(_said(before), _said(after), ""))


def _said(item: Object) -> Object:
    metadata = {name: value for name, value in item.get("metadata", {}).items() if name not in _SERVERS}
    return {name: value for name, value in item.items() if name != "status"} | {"metadata": metadata}


def _walk(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(set(before) | set(after)):
            below = f"{path}.{name}" if path else name
            yield from _walk(before.get(name, _ABSENT), after.get(name, _ABSENT), below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _walk(old, new, f"{path}[{_label(new, at)}]")
    elif before != after:
        yield f"{path}: {_shown(before)} → {_shown(after)}"


def _label(item: Any, at: int) -> str:
    return str(item["name"]) if isinstance(item, dict) and "name" in item else str(at)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "\n" in value:
        return f"{len(value.splitlines())} lines"
    return str(value)
