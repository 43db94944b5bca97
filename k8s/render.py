"""The manifests as one cluster gets them: an overlay, with a namespace, a configuration and images of one's own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from feedback.errors import UsageError
from feedback.settings import KafkaSettings
from k8s.kustomize import Choice, build, set_namespace
from k8s.objects import Object, containers, in_order

FOLDER = Path(__file__).parent
CONFIG = "everloop.toml"
_OURS = "everloop"
_LAST = ("kafka-elsewhere", "strimzi")
"""Components that give the others' pods their way to Kafka, and so come behind them."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to render."""

    overlay: str = "single"
    """One of `overlays()`, or a folder of one's own."""
    namespace: str = ""
    """Namespace to put it into. Default: the overlay's."""
    config: str | None = None
    """Text of the everloop.toml to use. Default: the overlay's."""
    image: str = ""
    """Repository of our images. Default: the overlay's."""
    tag: str = ""
    """Version of our images, to which `-cpu` or `-gpu` is added. Default: the overlay's tags."""
    components: tuple[str, ...] = ()
    """Of `components()`, those to take in beside the overlay's own."""
    without: tuple[str, ...] = ()
    """Components of the overlay to leave out."""


def overlays() -> list[str]:
    """Names of the overlays that come with everloop."""
    return sorted(path.parent.name for path in (FOLDER / "overlays").glob("*/kustomization.yaml"))


def components() -> list[str]:
    """Names of the components that come with everloop."""
    return sorted(path.parent.name for path in (FOLDER / "components").glob("*/kustomization.yaml"))


def render(wanted: Wanted) -> list[Object]:
    """Return the objects, in the order in which they are created.

    Raises:
        UsageError: there is no such overlay or component, or what it says cannot work.
    """
    folder = _folder(wanted.overlay)
    choice = Choice(
        files={} if wanted.config is None else {CONFIG: wanted.config},
        extra=tuple(_component(name) for name in sorted(wanted.components, key=lambda name: (name in _LAST, name))),
        without=frozenset(wanted.without),
    )
    items = build(folder, choice)
    if wanted.namespace:
        set_namespace(items, wanted.namespace)
    for item in items:
        for container in containers(item):
            container["image"] = _image(container["image"], wanted)
    check_workers(items)
    return in_order(items)


def text(items: list[Object]) -> str:
    """Write objects as YAML, one document each."""
    return yaml.safe_dump_all(items, sort_keys=False, width=140)


def namespace_of(items: Sequence[Object]) -> str:
    """The one namespace that the objects are in."""
    found = {item["metadata"]["namespace"] for item in items if "namespace" in item["metadata"]}
    if len(found) != 1:
        raise UsageError(f"the objects are in {len(found)} namespaces: exactly one is allowed")
    return str(found.pop())


def partitions(items: list[Object]) -> int:
    """Partitions of the topics that the join reads, as the configuration in the objects says."""
    for item in items:
        if item["kind"] == "ConfigMap" and CONFIG in item.get("data", {}):
            said: dict[str, Any] = tomllib.loads(item["data"][CONFIG]).get("kafka", {})
            return int(said.get("partitions", KafkaSettings().partitions))
    return KafkaSettings().partitions


def check_workers(items: list[Object]) -> None:
    """Raise UsageError where more join workers are wanted, or allowed to an autoscaler, than there are partitions."""
    most = partitions(items)
    for item in items:
        if item["metadata"]["name"] != "streams":
            continue
        if item["kind"] == "StatefulSet" and item["spec"].get("replicas", 1) > most:
            raise UsageError(
                f"StatefulSet streams: replicas = {item['spec']['replicas']}: at most kafka.partitions = {most}"
            )
        if item["kind"] == "HorizontalPodAutoscaler" and item["spec"]["maxReplicas"] > most:
            raise UsageError(
                f"HorizontalPodAutoscaler streams: maxReplicas = {item['spec']['maxReplicas']}: at most kafka.partitions = {most}"
            )


def _folder(overlay: str) -> Path:
    if overlay in overlays():
        return FOLDER / "overlays" / overlay
    if "/" in overlay or Path(overlay).is_dir():
        return Path(overlay)
    raise UsageError(f"overlay = {overlay!r}: one of {', '.join(overlays())}, or a folder with a kustomization.yaml")


def _component(name: str) -> Path:
    if name not in components():
        raise UsageError(f"with = {name!r}: one of {', '.join(components())}")
    return FOLDER / "components" / name


def _image(image: str, wanted: Wanted) -> str:
    name, _, tag = image.partition(":")
    if name.rpartition("/")[2] != _OURS:
        return image
    flavour = tag.rpartition("-")[2]
    wanted_tag = f"{wanted.tag}-{flavour}" if wanted.tag else tag
    return f"{wanted.image or name}:{wanted_tag}" if wanted_tag else wanted.image or name
