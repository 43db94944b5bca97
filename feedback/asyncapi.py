"""The contract as an AsyncAPI document, made of the event types: `python -m feedback.asyncapi` writes docs/asyncapi.yaml.

Descriptions are the docstrings of the types and of their fields, read from the source. The YAML is written here, in the few
forms that the document needs, so that the contract depends on no YAML library.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from feedback import deltas, events, features, versions
from feedback.deltas import DeltaHeader
from feedback.docstrings import field_docs
from feedback.events import DeadLetter, Outcome, Prediction, Progress, Sample, Tick
from feedback.topics import TOPICS, Topic
from feedback.versions import Control, ModelEvent, Replica

PATH: Final = Path("docs/asyncapi.yaml")

_MODULES: Final = (events, deltas, features, versions)

_MESSAGES: Final[Mapping[str, tuple[type[msgspec.Struct], ...]]] = {
    "predictions": (Prediction, Tick),
    "outcomes": (Outcome, Tick),
    "samples": (Sample, Progress),
    "models": (ModelEvent,),
    "control": (Control,),
    "replicas": (Replica,),
    "deadletter": (DeadLetter,),
}
"""What stands in each topic. Of deltas the header is described; join-changelog is the join's own."""

_WRITERS: Final = {
    "predictions": "Written by the gateway (in a replay, on behalf of the replayer; for producers, what something else showed).",
    "outcomes": "Written by event producers, and by the gateway for what comes over HTTP.",
    "samples": "Written by the join, in transactions; read committed records only.",
    "join-changelog": "Private to the join: what the inputs alone cannot restore.",
    "deltas": "Written by the trainer, in transactions; the value is opaque to everybody but the model's own graph.",
    "models": "Written by the trainer, the gate and followers: the life of each version.",
    "control": "Written by commands and the gate: what shall be live.",
    "replicas": "Written by followers: what each has loaded and applied.",
    "deadletter": "Written by whoever refuses a record: its bytes, where it stood, and why.",
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    types: list[type[msgspec.Struct]] = [
        *dict.fromkeys(kind for kinds in _MESSAGES.values() for kind in kinds),
        DeltaHeader,
    ]
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    _describe(components)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "everloop",
            "version": str(events.SCHEMA_VERSION),
            "description": "What passes through Kafka between the parts of everloop. Times are integer microseconds since the Unix "
            "epoch. Unknown fields are tolerated; missing or wrong ones are refused with the field's name.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            "sendOutcome": _operation(
                "send",
                "outcomes",
                "Say what a reader did with an item. The one event that producers write; a slate that something else "
                "chose goes through the gateway (POST /v1/slates), which adds the features that serving would have used.",
            ),
            "receiveSamples": _operation("receive", "samples", "Learn from labelled examples."),
            "receiveDeltas": _operation("receive", "deltas", "Keep a model server fresh."),
        },
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in types if kind is not DeltaHeader}
            | {"Delta": _delta()},
            "schemas": components,
        },
    }


def text() -> str:
    """The document as YAML."""
    head = "# Generated from the types in feedback/ by `python -m feedback.asyncapi`. Do not edit.\n"
    return head + "".join(f"{line}\n" for line in _yaml(document(), 0))


def _channel(topic: Topic) -> dict[str, Any]:
    kinds = ["Delta"] if topic.name == "deltas" else [kind.__name__ for kind in _MESSAGES.get(topic.name, ())]
    partitions = "the configured number of partitions" if topic.keyed_by_request else "one partition"
    return {
        "address": topic.name,
        "description": f"{_WRITERS[topic.name]} Key: {topic.key}; {partitions}. The configured namespace stands before the name.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in kinds},
        "bindings": {"kafka": {"topicConfiguration": _configuration(topic.config)}},
    }


def _configuration(config: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "cleanup.policy" in config:
        found["cleanup.policy"] = [config["cleanup.policy"]]
    if "retention.ms" in config:
        found["retention.ms"] = int(config["retention.ms"])
    return found


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"name": kind.__name__, "payload": {"$ref": f"#/components/schemas/{kind.__name__}"}}


def _delta() -> dict[str, Any]:
    header = {"type": "object", "properties": {deltas.HEADER: {"$ref": "#/components/schemas/DeltaHeader"}}}
    return {
        "name": "Delta",
        "contentType": "application/octet-stream",
        "summary": f"Opaque bytes; the record header `{deltas.HEADER}` says in JSON what they are.",
        "headers": header | {"required": [deltas.HEADER]},
        "payload": {"type": "string", "format": "binary"},
    }


def _describe(components: dict[str, Any]) -> None:
    """Put the docstrings under fields into the schemas."""
    for module in _MODULES:
        for name, docs in field_docs(module).items():
            properties = components.get(name, {}).get("properties", {})
            for field in properties.keys() & docs.keys():
                properties[field] = {"description": docs[field]} | properties[field]
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())


def _yaml(value: Any, depth: int) -> Iterator[str]:
    """Mappings in block form, lists of plain values in flow form, everything else as JSON, which is YAML."""
    indent = "  " * depth
    for key, inner in value.items():
        name = key if re.fullmatch(r"[A-Za-z_][\w-]*", key) else _scalar(key)
        if isinstance(inner, dict) and inner:
            yield f"{indent}{name}:"
            yield from _yaml(inner, depth + 1)
        elif isinstance(inner, list) and any(isinstance(entry, dict) for entry in inner):
            yield f"{indent}{name}:"
            for entry in inner:
                yield f"{indent}  - {_scalar(entry)}"
        else:
            yield f"{indent}{name}: {_scalar(inner)}"


def _scalar(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def main(arguments: list[str]) -> int:
    """Write the document to docs/asyncapi.yaml, or to the path given."""
    path = Path(arguments[0]) if arguments else PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(), encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
