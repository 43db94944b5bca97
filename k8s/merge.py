"""Patches: strategic merge, as far as manifests of workloads need it, and JSON patch (RFC 6902: add, replace, remove)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from feedback.errors import UsageError

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists whose elements are told apart by a field; every other list is replaced whole.
Source: patchMergeKey in the API's types, https://kubernetes.io/docs/reference/kubernetes-api/."""


def merged(target: Any, patch: Any, name: str = "") -> Any:
    """Merge a patch into a tree and return the result; None in the patch removes.

    >>> merged({"a": 1, "b": {"c": 2}}, {"b": {"c": None, "d": 3}})
    {'a': 1, 'b': {'d': 3}}
    """
    if isinstance(target, dict) and isinstance(patch, dict):
        out = dict(target)
        for each, value in patch.items():
            if value is None:
                out.pop(each, None)
            else:
                out[each] = merged(out.get(each), value, each)
        return out
    if isinstance(target, list) and isinstance(patch, list) and name in _MERGE_KEYS:
        return _by_key(target, patch, _MERGE_KEYS[name])
    return copy.deepcopy(patch)


def _by_key(target: list[Any], patch: list[Any], field: str) -> list[Any]:
    found = {each[field]: each for each in target}
    for each in patch:
        found[each[field]] = merged(found.get(each[field]), each)
    # As Kubernetes does it: what is new comes first.
    new = [name for name in found if name not in {each[field] for each in target}]
    return [found[name] for name in (*new, *(each[field] for each in target))]


def patched(target: Any, operations: Sequence[dict[str, Any]]) -> Any:
    """Carry out a JSON patch on a copy.

    Raises:
        UsageError: an operation is unknown, or its path leads nowhere.
    """
    out = copy.deepcopy(target)
    for operation in operations:
        _carry_out(out, operation)
    return out


def _carry_out(tree: Any, operation: dict[str, Any]) -> None:
    op, path = operation["op"], operation["path"]
    *above, last = [each.replace("~1", "/").replace("~0", "~") for each in path.split("/")[1:]]
    try:
        for each in above:
            tree = tree[int(each) if isinstance(tree, list) else each]
        if op == "add":
            _add(tree, last, operation["value"])
        elif op == "replace":
            place = _place(tree, last)
            tree[place]
            tree[place] = copy.deepcopy(operation["value"])
        elif op == "remove":
            del tree[_place(tree, last)]
        else:
            raise UsageError(f"patch: op = {op!r}: add, replace or remove")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"patch: {op} {path}: there is nothing there") from error


def _place(tree: Any, last: str) -> Any:
    return int(last) if isinstance(tree, list) else last


def _add(tree: Any, last: str, value: Any) -> None:
    if not isinstance(tree, list):
        tree[last] = copy.deepcopy(value)
    elif last == "-":
        tree.append(copy.deepcopy(value))
    else:
        tree.insert(int(last), copy.deepcopy(value))
