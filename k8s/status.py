"""What runs: each part, how far it is, what it serves, and why not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from k8s.api import Kube
from k8s.objects import WORKLOADS, Object, component, pod_spec
from k8s.ready import is_ready, standing
from k8s.rollout import events_of, history, pods_by_part, why_not
from k8s.tunnel import get

_FOLLOWER, _TRAINER = 9103, 9102


class Copy(Struct, frozen=True, kw_only=True):
    """What one pod serves, as it says itself."""

    pod: str
    version: int
    sequence: int
    freshness_p99_s: float | None = None
    """Age of outcomes when the model here has learned from them, since it started; None: nothing learned yet, or not asked."""


class Part(Struct, frozen=True, kw_only=True):
    """One part of the loop."""

    name: str
    wanted: int
    ready: int
    image: str
    copies: list[Copy]
    why: str
    """Why it is not as it shall be; empty: it is."""


class Status(Struct, frozen=True, kw_only=True):
    """Everything of one namespace."""

    namespace: str
    release: int
    """Number of the release in force; 0: none was applied."""
    parts: list[Part]
    trainer: str
    """The pod that holds the trainer's lease; empty: none."""


def status(kube: Kube, namespace: str) -> Status:
    """Ask the cluster, and the pods that know what is served."""
    known = history(kube, namespace)
    pods, events = pods_by_part(kube, namespace), kube.listed("v1", "Event", namespace)
    items = [each for kind in WORKLOADS for each in kube.listed("apps/v1", kind, namespace) if component(each)]
    lease = kube.get("coordination.k8s.io/v1", "Lease", namespace, "trainer") or {}
    return Status(
        namespace=namespace,
        release=known[-1].number if known else 0,
        parts=[_part(kube, each, pods[component(each)], events) for each in sorted(items, key=component)],
        trainer=lease.get("spec", {}).get("holderIdentity", "") or "",
    )


def _part(kube: Kube, item: Object, pods: Sequence[Object], events: Iterable[Object]) -> Part:
    at, spec = standing(item), pod_spec(item) or {}
    ask = {"model-server": _served, "trainer": _trained}.get(component(item))
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    return Part(
        name=component(item),
        wanted=at.wanted,
        ready=at.ready,
        image=spec["containers"][0]["image"],
        copies=[found for pod in running if ask and (found := ask(kube, pod)) is not None],
        why="" if at.rolled else why_not(item, pods, events_of(item, events)),
    )


def _served(kube: Kube, pod: Object) -> Copy | None:
    said, measured = get(kube, pod, _FOLLOWER, "/status"), get(kube, pod, _FOLLOWER, "/metrics")
    if said is None:
        return None
    found = json.loads(said)
    version = found["labels"].get("live", 0)
    return Copy(
        pod=pod["metadata"]["name"],
        version=version,
        sequence=found["loaded"].get(str(version), {}).get("sequence", 0),
        freshness_p99_s=quantile(measured or "", "everloop_freshness_seconds", {"stage": "synced"}, 0.99),
    )


def _trained(kube: Kube, pod: Object) -> Copy | None:
    if not is_ready(pod) or (said := get(kube, pod, _TRAINER, "/status")) is None:
        return None
    found = json.loads(said)
    return Copy(pod=pod["metadata"]["name"], version=found.get("version", 0), sequence=found.get("sequence", 0))


def quantile(text: str, name: str, labels: Mapping[str, str], share: float) -> float | None:
    """The upper bound of the bucket in which a histogram's quantile lies; None: nothing was observed.

    >>> lines = ['# TYPE a histogram', 'a_bucket{le="1.0"} 1', 'a_bucket{le="2.0"} 4', 'a_bucket{le="+Inf"} 4', 'a_sum 5', 'a_count 4']
    >>> quantile(chr(10).join(lines), "a", {}, 0.5)
    2.0
    """
    buckets = sorted(_buckets(text, name, labels))
    total = buckets[-1][1] if buckets else 0.0
    return next((bound for bound, count in buckets if total and count >= share * total), None)


def _buckets(text: str, name: str, labels: Mapping[str, str]) -> Iterator[tuple[float, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                yield float(sample.labels["le"]), float(sample.value)


def rows(found: Status) -> list[list[Any]]:
    """The table that people read: one row for each part."""
    return [
        [
            part.name,
            f"{part.ready}/{part.wanted}",
            part.image,
            ", ".join(f"{each.version}/{each.sequence}" for each in part.copies),
            ", ".join(f"{each.freshness_p99_s:g} s" for each in part.copies if each.freshness_p99_s is not None),
            part.why,
        ]
        for part in found.parts
    ]
