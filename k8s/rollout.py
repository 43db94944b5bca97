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
from k8s.needs import check_kinds, missing_kinds
from k8s.objects import COMPONENT, PART_OF, WORKLOADS, Object, component, in_order, key
from k8s.ready import reasons, standing, stuck
from k8s.releases import LABEL, Release, dropped
from k8s.render import namespace_of

_LOOK_S = 0.5
_OURS = f"{PART_OF[0]}={PART_OF[1]}"

Say = Callable[[str], object]


def plan(kube: Kube, items: Sequence[Object], *, force: bool = False) -> list[Change]:
    """Say what an apply would do. The API server answers it, by a trial run.

    Raises:
        OwnedError, RejectedError, KindMissingError: an apply would fail.
    """
    check_kinds(kube, items)
    found = []
    for item in items:
        live = _live(kube, item)
        if live is None:
            found.append(Change(key(item), ()))
        elif fields := differences(live, kube.apply(item, dry_run=True, force=force)):
            found.append(Change(key(item), fields))
    old = _superfluous(kube, items, history(kube, namespace_of(items)))
    return [*found, *(Change(key(item), (), gone=True) for item in old)]


def apply(kube: Kube, items: Sequence[Object], *, namespace: str, force: bool = False, say: Say) -> list[Change]:
    """Apply every object, in order, remove what the release before had beside them, and keep them as a release if anything changed;
    answer what changed.

    Raises:
        KindMissingError: nothing is applied.
        OwnedError, RejectedError: at an object; those before it are applied. Applying again goes on from there.
    """
    check_kinds(kube, items)
    changed = []
    for item in items:
        before = _live(kube, item)
        after = kube.apply(item, force=force)
        if before is None or before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            change = Change(key(item), differences(before, after) if before else ())
            changed.append(change)
            say(f"{'changed' if before else 'created'} {change.key}")
    known = history(kube, namespace)
    for item in _superfluous(kube, items, known):
        kube.delete(item)
        changed.append(Change(key(item), (), gone=True))
        say(f"removed {key(item)}: the release before had it, this one has not")
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
    """Delete these objects and those of the kept releases, last first; volumes, and with them the namespace, only with `data`."""
    applied = {key(item): item for release in history(kube, namespace) for item in release.objects}
    everything = in_order((applied | {key(item): item for item in items}).values())
    absent = missing_kinds(kube, everything)
    for item in reversed(everything):
        if (item["apiVersion"], item["kind"]) in absent:
            continue
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


def _superfluous(kube: Kube, items: Sequence[Object], known: Sequence[Release]) -> list[Object]:
    """What the release in force has put into the cluster, and these objects do not say any more; last first."""
    old = dropped(known[-1].objects if known else (), items)
    absent = missing_kinds(kube, old)
    return [item for item in old if (item["apiVersion"], item["kind"]) not in absent and _live(kube, item) is not None]
