"""What a cluster must have before anything is applied, so that an apply does not end half way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from k8s.api import Kube, brings
from k8s.errors import KindMissingError
from k8s.objects import Object, component, containers, pod_spec
from k8s.render import components


def check_kinds(kube: Kube, items: Sequence[Object]) -> None:
    """See that the cluster knows the kind of every object.

    Raises:
        KindMissingError: it does not: the message says what is missing, who brings it, and how to do without where one can.
    """
    absent = missing_kinds(kube, items)
    if not absent:
        return
    by_version = defaultdict(list)
    for version, kind in sorted(absent):
        by_version[version].append(kind)
    said = "; ".join(
        f"no kind {', '.join(kinds)} in {version}: install what defines it ({brings(version)}){_otherwise(items, version)}"
        for version, kinds in by_version.items()
    )
    raise KindMissingError(f"cluster {kube.host} has {said}; nothing was applied")


def _otherwise(items: Sequence[Object], version: str) -> str:
    """How to do without the kinds of a group: where all its objects are of a component that can be left out."""
    parts = {component(item) for item in items if item["apiVersion"] == version}
    if version.startswith("kafka.strimzi.io/"):
        return ", or leave it out: --without strimzi --with kafka-elsewhere"
    return f", or leave it out: --without {parts.pop()}" if len(parts) == 1 and parts <= set(components()) else ""


def missing_kinds(kube: Kube, items: Iterable[Object]) -> set[tuple[str, str]]:
    """Version and kind of objects whose kind the cluster does not know, and none of the objects defines."""
    items = list(items)
    defined = {
        (f"{item['spec']['group']}/{version['name']}", item["spec"]["names"]["kind"])
        for item in items
        if item["kind"] == "CustomResourceDefinition"
        for version in item["spec"]["versions"]
    }
    wanted = {(item["apiVersion"], item["kind"]) for item in items} - defined
    return {each for each in wanted if not kube.knows(*each)}


def missing_secrets(kube: Kube, items: Iterable[Object], namespace: str) -> list[str]:
    """Names of the Secrets that the objects need and that neither are there nor will be made by an operator."""
    items = list(items)
    made = {item["metadata"]["name"] for item in items if item["kind"] == "KafkaUser"}
    made |= {f"{item['metadata']['name']}-cluster-ca-cert" for item in items if item["kind"] == "Kafka"}
    wanted = {name for item in items for name in _secrets(item)} - made
    return sorted(name for name in wanted if kube.get("v1", "Secret", namespace, name) is None)


def _secrets(item: Object) -> Iterator[str]:
    for container in containers(item):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]["name"]
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield source["secretRef"]["name"]
    for volume in (pod_spec(item) or {}).get("volumes", ()):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
    if item["kind"] == "PodMonitor":
        for end in item["spec"]["podMetricsEndpoints"]:
            if "authorization" in end:
                yield end["authorization"]["credentials"]["name"]
