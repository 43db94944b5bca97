"""What was applied, kept in the cluster: each apply that changes something writes a ConfigMap with all its objects, so that `rollback` can
apply an earlier one. Nothing secret is in them: secrets are in Secrets, which are not ours.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feedback.errors import CorruptError, UsageError
from k8s.objects import PART_OF, Object, key

LABEL = "everloop.dev/release"
_PREFIX = "everloop-release-"
_DIGEST = "everloop.dev/digest"
_APPLIED = "everloop.dev/applied"
KEEP = 10
"""Releases that are kept."""
_DATA = frozenset({"Namespace", "PersistentVolumeClaim", "Lease", "KafkaNodePool", "Kafka", "KafkaUser", "KafkaTopic"})
"""Kinds that hold what cannot be made again: no apply removes one."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """All objects of one apply."""

    number: int
    digest: str
    applied: str
    """UTC, ISO 8601."""
    objects: list[Object]


def digest(items: Sequence[Object]) -> str:
    """A name for a set of objects that says nothing of when they were applied."""
    return hashlib.sha256(_json(items)).hexdigest()[:32]


def pack(items: Sequence[Object], *, number: int, namespace: str, applied: str) -> Object:
    """Make the ConfigMap that keeps a release."""
    packed = gzip.compress(_json(items), mtime=0)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{_PREFIX}{number}",
            "namespace": namespace,
            "labels": {LABEL: str(number), PART_OF[0]: PART_OF[1]},
            "annotations": {_DIGEST: digest(items), _APPLIED: applied},
        },
        "binaryData": {"objects.json.gz": base64.b64encode(packed).decode()},
    }


def unpack(item: Object) -> Release:
    """Read what `pack` made.

    Raises:
        CorruptError: the objects are not those that the ConfigMap says.
    """
    metadata = item["metadata"]
    try:
        objects: list[Any] = json.loads(gzip.decompress(base64.b64decode(item["binaryData"]["objects.json.gz"])))
        release = Release(
            number=int(metadata["labels"][LABEL]),
            digest=metadata["annotations"][_DIGEST],
            applied=metadata["annotations"][_APPLIED],
            objects=objects,
        )
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise CorruptError(f"ConfigMap {metadata['name']}: {error!r}") from error
    if digest(objects) != release.digest:
        raise CorruptError(f"ConfigMap {metadata['name']}: its objects are not those it was written with")
    return release


def dropped(before: Sequence[Object], after: Sequence[Object]) -> list[Object]:
    """What a release had and the next one has not, last first. Kinds that hold data stay, and so does a generated ConfigMap of which
    there is only another edition now: pods that have not rolled yet still read it.
    """
    now = {key(item) for item in after}
    editions = {_stem(item) for item in after if item["kind"] == "ConfigMap"}
    return [
        item
        for item in reversed(before)
        if key(item) not in now
        and item["kind"] not in _DATA
        and not (item["kind"] == "ConfigMap" and _stem(item) in editions)
    ]


def _stem(item: Object) -> str:
    """A generated ConfigMap's name without the hash of its content."""
    return str(item["metadata"]["name"]).rpartition("-")[0]


def target(releases: Sequence[Release], number: int | None) -> Release:
    """Choose the release to go back to: the named one, or the newest that differs from the one in force.

    Raises:
        UsageError: there is none.
    """
    known = ", ".join(str(each.number) for each in releases) or "none"
    if number is not None:
        found = next((each for each in releases if each.number == number), None)
        if found is None:
            raise UsageError(f"release = {number}: one of {known}")
        return found
    earlier = [each for each in releases if each.digest != releases[-1].digest] if releases else []
    if not earlier:
        raise UsageError(f"there is no earlier release to go back to (known: {known})")
    return earlier[-1]


def _json(items: Sequence[Object]) -> bytes:
    return json.dumps(items, sort_keys=True, separators=(",", ":")).encode()
