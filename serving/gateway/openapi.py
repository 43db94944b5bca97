"""The OpenAPI document, made of the message types, and a page that shows it without fetching anything from elsewhere."""

from __future__ import annotations

import html
from functools import cache
from typing import Any, Final

import msgspec

from feedback.docstrings import field_docs
from serving.gateway import messages
from serving.gateway.messages import (
    ObserveRequest,
    ObserveResponse,
    OutcomeIn,
    OutcomesResponse,
    Problem,
    RecommendRequest,
    RecommendResponse,
    Status,
)

_TYPES: Final = (
    RecommendRequest,
    RecommendResponse,
    ObserveRequest,
    ObserveResponse,
    OutcomeIn,
    OutcomesResponse,
    Problem,
    Status,
)
_PROBLEMS: Final = {
    "400": "The body is not JSON",
    "401": "No or an unknown API key",
    "403": "The key's scopes do not allow it",
    "408": "The body did not come in time",
    "413": "The body is too large",
    "422": "The request is not as the contract says; `field` names the place",
    "429": "The key's rate is used up; Retry-After says when to try again",
    "503": "The spool is full: Kafka has been away for long; Retry-After says when to try again",
}
_RECOMMEND: Final = ("400", "401", "403", "408", "413", "422", "429")


@cache
def document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the gateway."""
    schemas, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    refs = dict(zip(_TYPES, schemas, strict=True))
    for name, docs in field_docs(messages).items():
        for field, text in docs.items():
            if name in components:
                components[name]["properties"][field].setdefault("description", text)
    outcomes = {
        "anyOf": [refs[OutcomeIn], {"type": "array", "items": refs[OutcomeIn], "minItems": 1, "maxItems": 10_000}]
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "everloop gateway",
            "version": version,
            "description": "Ranked slates from a model that learns from their outcomes.",
        },
        "security": [{"bearer": []}, {"header": []}, {}],
        "paths": {
            "/v1/recommend": {
                "post": _post("recommend", refs[RecommendRequest], "200", refs[RecommendResponse], _RECOMMEND)
            },
            "/v1/slates": {
                "post": _post("slates", refs[ObserveRequest], "202", refs[ObserveResponse], tuple(_PROBLEMS))
            },
            "/v1/outcomes": {"post": _post("outcomes", outcomes, "202", refs[OutcomesResponse], tuple(_PROBLEMS))},
            "/v1/status": {"get": _get("status", "application/json", refs[Status], ("401", "403"))},
            "/v1/health/live": {"get": _get("live", "application/json", {"type": "object"})},
            "/v1/health/ready": {"get": _get("ready", "application/json", {"type": "object"}, ("503",))},
            "/metrics": {"get": _get("metrics", "text/plain", {"type": "string"}, ("401", "403"))},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def page(version: str) -> str:
    """The document as a page: every route, and every type with its fields."""
    spec = document(version)
    routes = "".join(
        f"<h2><code>{method.upper()} {path}</code></h2><p>{html.escape(operation['summary'])}</p>"
        + "<ul>"
        + "".join(
            f"<li><b>{code}</b> {html.escape(answer['description'])}</li>"
            for code, answer in operation["responses"].items()
        )
        + "</ul>"
        for path, item in spec["paths"].items()
        for method, operation in item.items()
    )
    types = "".join(
        f"<h3 id={name}>{name}</h3><p>{html.escape(schema.get('description', ''))}</p><table>"
        + "".join(
            _row(field, body, field in schema.get("required", ()))
            for field, body in schema.get("properties", {}).items()
        )
        + "</table>"
        for name, schema in spec["components"]["schemas"].items()
    )
    style = "body{font:15px/1.5 system-ui;max-width:60em;margin:2em auto}td{padding:.2em 1em .2em 0;vertical-align:top}"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>everloop gateway</title><style>{style}</style>"
    return f"{head}<h1>everloop gateway {version}</h1><p><a href=openapi.json>openapi.json</a></p>{routes}{types}"


_SUMMARIES: Final = {
    "recommend": "Rank candidates for a reader.",
    "slates": "Tell of a slate that something else chose. 202: it is in Kafka or in the spool.",
    "outcomes": "Say what readers did. 202: each accepted outcome is in Kafka or in the spool.",
    "status": "The live version and sequence, freshness, spool and breakers.",
    "live": "Whether the process runs.",
    "ready": "Whether it can log what it answers.",
    "metrics": "Prometheus' text format.",
}


def _post(name: str, body: Any, code: str, answer: Any, problems: tuple[str, ...]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": _SUMMARIES[name],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {code: _answer("Done", "application/json", answer)} | _refusals(problems),
    }


def _get(name: str, media: str, answer: Any, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": _SUMMARIES[name],
        "responses": {"200": _answer("Done", media, answer)} | _refusals(problems),
    }


def _refusals(codes: tuple[str, ...]) -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {code: _answer(_PROBLEMS[code], "application/problem+json", problem) for code in codes}


def _answer(text: str, media: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema}}}


def _row(field: str, schema: dict[str, Any], required: bool) -> str:
    kind = schema.get("type") or schema.get("$ref", "").rsplit("/", 1)[-1] or "any"
    mark = "" if required else "optional"
    return f"<tr><td><code>{field}</code><td>{kind}<td>{mark}<td>{html.escape(schema.get('description', ''))}</tr>"
