"""The docstrings under fields, which Python itself throws away: read from the source, for the documents made of types."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import ModuleType


def field_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """The docstring under each field of a module's classes, by class and field."""
    tree = ast.parse(inspect.getsource(module))
    return {node.name: dict(_documented(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, doc in pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str):
            yield field.target.id, " ".join(doc.value.value.split())
