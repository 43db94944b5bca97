"""Bring a cluster to what the objects say, and wait until it is there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from k8s import releases
from k8s.api import Kube
from k8s.changes import Change, differences
from k8s.errors import NotReadyError
from k8s.objects import COMPONENT, PART_OF, WORKLOADS, Object, component, containers, key, pod_spec
from k8s.ready import reasons, standing, stuck
from k8s.releases import LABEL, Release

_LOOK_S = 0.5
_OURS = f"{PART_OF[0]}={PART_OF[1]}"

Say = Callable[[str], object]


def plan(kube: Kube, items: Sequence[Object], *, force: bool = False) -> list[Change]:
    """Say what an apply would do. The API server answers it, by a trial run.

    Raises:
        OwnedError, RejectedError, KindMissingError: an apply would fail.
    """
    found = []
    for item in items:
        live = _live(kube, item)
        if live is None:
            kube.resource(item["apiVersion"], item["kind"])
            found.append(Change(key(item), ()))
        elif fields := differences(live, kube.apply(item, dry_run=True, force=force)):
            found.append(Change(key(item), fields))
    return found


def missing_secrets(kube: Kube, items: Iterable[Object], namespace: str) -> list[str]:
    """Names of the Secrets that the pods need and that neither are there nor will be made by an operator."""
    made = {item["metadata"]["name"] for item in items if item["kind"] == "KafkaUser"}
    made |= {f"{item['metadata']['name']}-cluster-ca-cert" for item in items if item["kind"] == "Kafka"}
    wanted = {name for item in items for name in _secrets(item)} - made
    return sorted(name for name in wanted if kube.get("v1", "Secret", namespace, name) is None)


def apply(kube: Kube, items: Sequence[Object], *, namespace: str, force: bool = False, say: Say) -> list[Change]:
    """Apply every object, in order, and keep them as a release if anything changed; answer what changed.

    Raises:
        OwnedError, RejectedError, KindMissingError: at an object; those before it are applied. Applying again goes on from there.
    """
    changed = []
    for item in items:
        before = _live(kube, item)
        after = kube.apply(item, force=force)
        if before is None or before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            change = Change(key(item), differences(before, after) if before else ())
            changed.append(change)
            say(f"{'changed' if before else 'created'} {change.key}")
    known = history(kube, namespace)
    if not known or known[-1].digest != releases.digest(items):
        number = known[-1].number + 1 if known else 1
        kube.apply(
            releases.pack(
                items, number=number, namespace=namespace, applied=datetime.now(UTC).isoformat(timespec="seconds")
            )
        )
        say(f"kept as release {number}")
    return changed


def history(kube: Kube, namespace: str) -> list[Release]:
    """The releases that are kept, oldest first."""
    found = [releases.unpack(each) for each in kube.listed("v1", "ConfigMap", namespace, selector=LABEL)]
    return sorted(found, key=lambda each: each.number)


def wait(kube: Kube, items: Sequence[Object], *, namespace: str, timeout_s: float, say: Say) -> None:
    """Wait until every workload runs as the objects say; each new reason why it does not is said.

    Raises:
        NotReadyError: one did not within `timeout_s`: the message says why.
    """
    deadline = time.monotonic() + timeout_s
    said: dict[str, str] = {}
    while waiting := _waiting(kube, items, namespace, say):
        for name, why in waiting.items():
            if said.get(name) != why:
                say(f"waiting for {name}: {why}")
        said = waiting
        if time.monotonic() > deadline:
            raise NotReadyError("\n".join(f"{name}: {why}" for name, why in waiting.items()))
        time.sleep(_LOOK_S)


def tidy(kube: Kube, items: Sequence[Object], *, namespace: str) -> None:
    """Remove releases beyond those that are kept, and generated ConfigMaps that none of the kept ones names."""
    known = kube.listed("v1", "ConfigMap", namespace, selector=LABEL)
    known.sort(key=lambda each: int(each["metadata"]["labels"][LABEL]))
    for old in known[: -releases.KEEP]:
        kube.delete(old)
    kept = {key(each) for item in known[-releases.KEEP :] for each in releases.unpack(item).objects} | {
        key(each) for each in items
    }
    for item in kube.listed("v1", "ConfigMap", namespace, selector=f"{_OURS},!{LABEL}"):
        if key(item) not in kept:
            kube.delete(item)


def remove(kube: Kube, items: Sequence[Object], *, namespace: str, data: bool, say: Say) -> None:
    """Delete what was applied, last first; volumes, and with them the namespace, only with `data`."""
    for item in reversed(items):
        if data or item["kind"] not in ("Namespace", "PersistentVolumeClaim"):
            kube.delete(item, foreground=item["kind"] in WORKLOADS)
            say(f"deleted {key(item)}")
    for kept in kube.listed("v1", "ConfigMap", namespace, selector=_OURS):
        kube.delete(kept)


def pods_by_part(kube: Kube, namespace: str) -> dict[str, list[Object]]:
    """The pods of each part."""
    found = defaultdict(list)
    for pod in kube.listed("v1", "Pod", namespace, selector=COMPONENT):
        found[component(pod)].append(pod)
    return found


def events_of(item: Object, events: Iterable[Object]) -> list[Object]:
    """The events of a workload and of the ReplicaSets and pods that it owns, which are called after it; newest last."""
    name = item["metadata"]["name"]
    found = [each for each in events if f"{each['involvedObject'].get('name', '')}-".startswith(f"{name}-")]
    return sorted(found, key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")


def why_not(item: Object, pods: Sequence[Object], events: Iterable[Object]) -> str:
    """Say in one line how far a workload is, and why not further."""
    at = standing(item)
    counted = f"{at.ready} of {at.wanted} ready, {at.updated} up to date"
    return "; ".join([counted, *reasons(item, pods, events_of(item, events))])


def _waiting(kube: Kube, items: Sequence[Object], namespace: str, say: Say) -> dict[str, str]:
    live = [found for item in items if item["kind"] in WORKLOADS and (found := _live(kube, item)) is not None]
    late = [item for item in live if not standing(item).rolled]
    if not late:
        return {}
    pods, events = pods_by_part(kube, namespace), kube.listed("v1", "Event", namespace)
    for item in late:
        for pod in stuck(item, pods[component(item)]):
            say(f"deleted pod {pod['metadata']['name']}: it is not ready, and of a revision that nobody wants any more")
            kube.delete(pod)
    return {str(key(item)): why_not(item, pods[component(item)], events) for item in late}


def _live(kube: Kube, item: Object) -> Object | None:
    return kube.get(item["apiVersion"], item["kind"], key(item).namespace, key(item).name)


def _secrets(item: Object) -> Iterable[str]:
    for container in containers(item):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in (pod_spec(item) or {}).get("volumes", ()):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
