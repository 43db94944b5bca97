"""Requests made from the OpenAPI document: whatever a client sends, the gateway does not fail, and answers as documented."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance

from serving.gateway.openapi import document
from serving.gateway.settings import GatewaySettings
from tests.gateway.conftest import Start
from tests.gateway.world import Process

SCHEMA = schemathesis.openapi.from_dict(document("test"))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]
CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]


def try_all(operation: Any, gateway: Process, mode: schemathesis.GenerationMode) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Any) -> None:
        case.call_and_validate(base_url=gateway.url, checks=CHECKS)

    attempt()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_is_sent_nothing_fails_and_every_answer_is_as_documented(start: Start) -> None:
    gateway = start(GatewaySettings(ticks=False))
    assert len(OPERATIONS) >= 6
    for operation in OPERATIONS:
        try_all(operation, gateway, schemathesis.GenerationMode.POSITIVE)
        if operation.method == "post":
            try_all(operation, gateway, schemathesis.GenerationMode.NEGATIVE)
    assert "Traceback" not in gateway.log()
