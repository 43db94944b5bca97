"""Whether an object is what it shall be, and if not, why: from the objects alone, without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from k8s.objects import Object

_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>.+), used: (?P<used>.+), limited: (?P<limited>\S+)"
)
_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a workload is."""

    wanted: int
    ready: int
    updated: int
    """Of the ready ones, those that are as the object says now."""
    rolled: bool
    """Whether all that are wanted are as the object says, and ready."""


def standing(item: Object) -> Standing:
    """Count a Deployment's or StatefulSet's pods.

    >>> standing({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": {"observedGeneration": 1}}).rolled
    False
    """
    spec, status = item["spec"], item.get("status", {})
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    updated = status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
    if item["kind"] == "StatefulSet":
        whole = updated == wanted or status.get("currentRevision") == status.get("updateRevision")
    else:
        whole = updated == wanted and status.get("replicas", 0) == wanted
    return Standing(wanted=wanted, ready=ready, updated=updated, rolled=bool(seen and whole and ready >= wanted))


def reasons(item: Object, pods: Sequence[Object], events: Iterable[Object]) -> list[str]:
    """Say why a workload is not ready, the nearest cause of each pod once. `events`: of the workload and of what it owns."""
    found = [reason for pod in pods if not is_ready(pod) and (reason := pod_reason(pod))]
    if len(pods) < standing(item).wanted or not found:
        found += [failure for event in events if (failure := _creation(event))]
    for condition in item.get("status", {}).get("conditions", ()):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            found.append(condition["message"])
    return list(dict.fromkeys(found))


def is_ready(pod: Object) -> bool:
    """Whether a pod may be sent requests."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def pod_reason(pod: Object) -> str:
    """Say why a pod is not ready; empty: nothing says it."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"pod {name}: {condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            ended = container.get("lastState", {}).get("terminated", {})
            last = f" (ended with {ended['exitCode']}: {ended.get('reason', '')})" if ended else ""
            return f"pod {name}: {container['name']}: {waiting.get('reason')}: {waiting.get('message', '')}{last}"
    late = [each["name"] for each in status.get("containerStatuses", ()) if not each.get("ready")]
    return f"pod {name}: {', '.join(late)} not ready yet" if late else ""


def stuck(item: Object, pods: Iterable[Object]) -> list[Object]:
    """Pods of a StatefulSet that are not ready, of a revision that nobody wants any more: it waits for them for ever.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
    """
    if item["kind"] != "StatefulSet":
        return []
    wanted = item.get("status", {}).get("updateRevision")
    return [
        pod
        for pod in pods
        if pod["metadata"].get("labels", {}).get("controller-revision-hash") != wanted
        and not is_ready(pod)
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _creation(event: Object) -> str:
    """What an event says of a pod that could not be created."""
    if event.get("reason") != "FailedCreate":
        return ""
    message = event.get("message", "")
    found = _QUOTA.search(message)
    return _missing(found) if found else str(message)


def _missing(found: re.Match[str]) -> str:
    """Say which quota is too small, and by how much."""
    requested, used, limited = (_amounts(found[each]) for each in ("requested", "used", "limited"))
    short = [
        f"{name} {_short(number(used[name]) + number(asked) - number(limited[name]))} more "
        f"(a pod needs {asked}, {used[name]} of {limited[name]} are used)"
        for name, asked in requested.items()
        if name in limited and name in used
    ]
    return f"quota {found['name']} is too small: {', '.join(short)}"


def _amounts(text: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in text.rstrip(".").split(",") if "=" in each)


def number(quantity: str) -> float:
    """Read a quantity.

    >>> number("500m"), number("2Gi")
    (0.5, 2147483648.0)
    """
    found = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", quantity)
    return float(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else 0.0


def _short(amount: float) -> str:
    for unit in ("Ti", "Gi", "Mi"):
        if amount >= _UNITS[unit]:
            return f"{amount / _UNITS[unit]:.4g}{unit}"
    return f"{amount:.4g}"
