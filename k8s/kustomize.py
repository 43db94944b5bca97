"""An overlay becomes a list of objects, as `kubectl kustomize` makes it, without kubectl.

Of kustomize this is what our overlays use, and no more: resources, components, configMapGenerator, patches, namespace,
labels (on the objects alone), images. Whatever else a kustomization.yaml says is refused, never passed over. A test compares every
overlay with what the real one makes of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from feedback.errors import UsageError
from k8s.merge import merged, patched
from k8s.objects import CLUSTER_SCOPED, Object, containers, key, pod_spec

FILE = "kustomization.yaml"
_HEX = str.maketrans("013ae", "ghkmt")
_HASHED = 10


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is not as the kustomizations say it."""

    files: Mapping[str, str] = field(default_factory=dict)
    """Text to use for a generated ConfigMap's file, by file name."""
    extra: tuple[Path, ...] = ()
    """Components to take in before the overlay's own."""
    without: frozenset[str] = frozenset()
    """Names of components' folders to leave out."""


@dataclass
class Build:
    """What one kustomization has gathered so far."""

    objects: list[Object] = field(default_factory=list)
    generated: set[tuple[str, str]] = field(default_factory=set)
    """Kind and name of those whose name gets a hash of their content."""
    components: list[str] = field(default_factory=list)
    """Names of the components that were met, those left out as well."""


def build(folder: Path, choice: Choice | None = None) -> list[Object]:
    """Return an overlay's objects.

    Raises:
        UsageError: the folder has no kustomization.yaml, or one that says more than is understood here.
    """
    choice = choice or Choice()
    made = Build()
    _gather(folder, choice, made, extra=choice.extra)
    if absent := sorted(choice.without - set(made.components)):
        taken = ", ".join(sorted(set(made.components))) or "none"
        raise UsageError(f"without = {absent[0]!r}: no component of {folder.name}, which takes in: {taken}")
    return _hashed(made)


def _gather(folder: Path, choice: Choice, made: Build, *, extra: tuple[Path, ...] = ()) -> None:
    """Add what a kustomization has; a component adds to, and changes, what the overlay that takes it in has gathered before."""
    said = _read(folder)
    for name in said.get("resources", ()):
        path = folder / name
        if path.is_dir():
            below = Build()
            _gather(path, choice, below)
            made.objects += below.objects
            made.generated |= below.generated
            made.components += below.components
        else:
            made.objects += _documents(path)
    for path in (*extra, *(folder / name for name in said.get("components", ()))):
        known = path.name in made.components
        made.components.append(path.name)
        if not known and path.name not in choice.without:
            _gather(path, choice, made)
    for generator in said.get("configMapGenerator", ()):
        _generate(folder, generator, choice.files, made)
    _transform(folder, said, made)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder} has no {FILE}")
    said: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    unknown = sorted(set(said) - _UNDERSTOOD)
    if unknown:
        raise UsageError(f"{path}: {unknown[0]} is not understood here: one of {', '.join(sorted(_UNDERSTOOD))}")
    return said


def _documents(path: Path) -> list[Object]:
    try:
        return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {error}") from error


def _generate(folder: Path, said: Mapping[str, Any], files: Mapping[str, str], made: Build) -> None:
    data = {}
    for entry in said["files"]:
        name, _, path = entry.rpartition("=")
        name = name or Path(path).name
        data[name] = files[name] if name in files else (folder / path).read_text(encoding="utf-8")
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": said["name"]}, "data": data}
    behavior = said.get("behavior", "create")
    if behavior not in ("create", "replace"):
        raise UsageError(f"{folder / FILE}: configMapGenerator behavior {behavior!r}: create or replace")
    for each in made.objects:
        if behavior == "replace" and (each["kind"], each["metadata"]["name"]) == ("ConfigMap", said["name"]):
            each["data"] = data
            return
    made.objects.append(item)
    made.generated.add(("ConfigMap", said["name"]))


def _transform(folder: Path, said: Mapping[str, Any], made: Build) -> None:
    """Do what the kustomization says to the objects gathered, in kustomize's order."""
    for name, carry_out in _TRANSFORMERS.items():
        if name in said:
            carry_out(folder, said[name], made)


def _patches(folder: Path, said: Sequence[Mapping[str, Any]], made: Build) -> None:
    for each in said:
        text = (folder / each["path"]).read_text(encoding="utf-8") if "path" in each else each["patch"]
        for patch in _split(text):
            target = each.get("target") or {"kind": patch["kind"], "name": patch["metadata"]["name"]}
            found = [at for at, item in enumerate(made.objects) if _matches(item, target)]
            if not found and "target" not in each:
                raise UsageError(f"{folder / FILE}: no object matches the patch's target {target}")
            if isinstance(patch, dict) and patch.get("$patch") == "delete":
                made.objects = [item for at, item in enumerate(made.objects) if at not in found]
                continue
            for at in found:
                change = patched if isinstance(patch, list) else merged
                made.objects[at] = change(made.objects[at], patch)


def _split(text: str) -> list[Any]:
    return [each for each in yaml.safe_load_all(text) if each]


def _matches(item: Object, target: Mapping[str, str]) -> bool:
    kind, name = target.get("kind", ".*"), target.get("name", ".*")
    return bool(re.fullmatch(kind, item["kind"]) and re.fullmatch(name, item["metadata"]["name"]))


def _namespace(folder: Path, said: str, made: Build) -> None:
    set_namespace(made.objects, said)


def set_namespace(items: Sequence[Object], namespace: str) -> None:
    """Put every object into a namespace, and call the namespace itself so."""
    accounts = {item["metadata"]["name"] for item in items if item["kind"] == "ServiceAccount"}
    for item in items:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = namespace
        elif item["kind"] not in CLUSTER_SCOPED:
            item["metadata"]["namespace"] = namespace
        for subject in item.get("subjects", ()):
            if subject["kind"] == "ServiceAccount" and subject["name"] in accounts:
                subject["namespace"] = namespace


def _labels(folder: Path, said: Sequence[Mapping[str, Any]], made: Build) -> None:
    for each in said:
        if set(each) != {"pairs"}:
            raise UsageError(
                f"{folder / FILE}: labels: only `pairs` are understood here, not {', '.join(sorted(each))}"
            )
        for item in made.objects:
            item["metadata"].setdefault("labels", {}).update(each["pairs"])


def _images(folder: Path, said: Sequence[Mapping[str, str]], made: Build) -> None:
    for item in made.objects:
        for container in containers(item):
            for each in said:
                container["image"] = _renamed(container["image"], each)


def _renamed(image: str, said: Mapping[str, str]) -> str:
    name, _, tag = image.partition(":")
    if name != said["name"]:
        return image
    tag = said.get("newTag", tag)
    return said.get("newName", name) + (f":{tag}" if tag else "")


_TRANSFORMERS: dict[str, Callable[[Path, Any, Build], None]] = {
    "patches": _patches,
    "namespace": _namespace,
    "labels": _labels,
    "images": _images,
}
_UNDERSTOOD = {"apiVersion", "kind", "resources", "components", "configMapGenerator", *_TRANSFORMERS}


def _hashed(made: Build) -> list[Object]:
    """Give generated ConfigMaps a name made of their content, so that pods roll when it changes."""
    names = {}
    for item in made.objects:
        name = item["metadata"]["name"]
        if (item["kind"], name) in made.generated:
            names[name] = item["metadata"]["name"] = f"{name}-{digest(item['data'])}"
    for item in made.objects:
        for volume in (pod_spec(item) or {}).get("volumes", ()):
            if "configMap" in volume:
                volume["configMap"]["name"] = names.get(volume["configMap"]["name"], volume["configMap"]["name"])
    keys = [key(item) for item in made.objects]
    for each in keys:
        if keys.count(each) > 1:
            raise UsageError(f"{each} is there twice")
    return made.objects


def digest(data: Mapping[str, str]) -> str:
    """The suffix that kustomize gives a ConfigMap.

    Source: kustomize, api/hasher/hasher.go: ten characters of the SHA-256 of the JSON as Go writes it, some replaced so that they make
    no word. The name in it is always empty: the code looks it up under a path that it takes for one field.
    """
    text = json.dumps(
        {"data": data, "kind": "ConfigMap", "name": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    for sign, escaped in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
        text = text.replace(sign, escaped)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASHED].translate(_HEX)
