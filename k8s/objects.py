"""Kubernetes objects as plain trees: what they are called, and in which order they are created."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Object = dict[str, Any]
"""One object, as its YAML says it."""

CLUSTER_SCOPED = frozenset(
    {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass"}
)

_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Lease",
    "Service",
    "PodDisruptionBudget",
    "KafkaNodePool",
    "Kafka",
    "KafkaUser",
    "KafkaTopic",
    "StatefulSet",
    "Deployment",
)
WORKLOADS = ("StatefulSet", "Deployment")
"""Kinds that run pods."""

PART_OF = ("app.kubernetes.io/part-of", "everloop")
"""The label by which an object is known to be ours."""
COMPONENT = "app.kubernetes.io/component"
"""The label that names the part."""


class Key(NamedTuple):
    """What tells an object from every other one in a cluster."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def key(item: Object) -> Key:
    """Name an object.

    >>> str(key({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "trainer"}}))
    'Deployment trainer'
    """
    group, _, version = item["apiVersion"].rpartition("/")
    return Key(group if version else "", item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])


def in_order(items: Iterable[Object]) -> list[Object]:
    """Sort so that what others need is created before them; alike ones by name."""
    return sorted(items, key=lambda item: (_rank(item["kind"]), key(item)))


def pod_spec(item: Object) -> Object | None:
    """The pod that a workload makes copies of; None: it makes none."""
    found: Object | None = item.get("spec", {}).get("template", {}).get("spec") if item["kind"] in WORKLOADS else None
    return found


def containers(item: Object) -> Iterator[Object]:
    """Every container of a workload's pods, those that run first included."""
    spec = pod_spec(item) or {}
    yield from spec.get("initContainers", ())
    yield from spec.get("containers", ())


def component(item: Object) -> str:
    """The part that an object belongs to; empty: to none."""
    return str(item["metadata"].get("labels", {}).get(COMPONENT, ""))


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)
