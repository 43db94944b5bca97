"""docs/asyncapi.yaml is what the types say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import structs

from feedback.events import Outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published() -> Any:
    return yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))


def test_the_published_document_is_not_stale() -> None:
    from feedback import asyncapi

    fresh = asyncapi.text()
    assert (ROOT / asyncapi.PATH).read_text(encoding="utf-8") == fresh, "run: python -m feedback.asyncapi"
    assert yaml.safe_load(fresh) == asyncapi.document()


def test_every_reference_in_it_leads_somewhere(published: Any) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [r for k, v in node.items() for r in ([v] if k == "$ref" else references(v))]
        return [r for inner in node for r in references(inner)] if isinstance(node, list) else []

    found = references(published)
    assert len(found) > 10
    for reference in found:
        place = published
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_field_of_every_type_is_described(published: Any) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in published["components"]["schemas"].items()
        for field, body in schema.get("properties", {}).items()
        if field != "type" and "description" not in body
    ]
    assert bare == []


def test_every_topic_is_a_channel_and_an_outcome_is_described_as_it_is_decoded(published: Any) -> None:
    from feedback.topics import TOPICS

    assert set(published["channels"]) == {topic.name for topic in TOPICS}
    schema = published["components"]["schemas"]["Outcome"]
    required = {field.name for field in structs.fields(Outcome) if field.required}
    assert set(schema["required"]) - {"type"} == required
