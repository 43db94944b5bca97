"""REST paths: what a method and a path are about. Pure.

The path, the query and all, is matched by the official server's two patterns: a query is part of a name, and a method the
API has not is a malformed request, not a 405.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tensorflow_serving.apis import model_pb2

from serving.model_server.faults import invalid

_POST = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE
)
API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Target:
    """What a path names."""

    spec: Any
    """The ModelSpec."""
    action: str
    """classify, regress, predict, status or metadata."""


def target(method: str, path: str) -> Target:
    """What a request is about.

    Raises:
        ServingError: the path or the method is none of the API's.
    """
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    malformed = invalid(f"Malformed request: {method} {path}")
    if match is None:
        raise malformed
    name, version, label, what = match.groups()
    spec = model_pb2.ModelSpec(name=_unquoted(name or ""))
    if version is not None:
        if int(version) >= 2**63:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = _unquoted(label)
    if method == "GET":
        if not name:
            raise invalid("Missing model name in request.")
        return Target(spec, "metadata" if what else "status")
    if what not in ("classify", "regress", "predict"):
        raise malformed
    return Target(spec, what)


def _unquoted(text: str) -> str:
    return unquote(text, errors="replace")
