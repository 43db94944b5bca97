"""A gateway in its own process with a fake model behind it and real Kafka and Redis beside it, as the gateway's own tests have it."""

from __future__ import annotations

from tests.gateway.conftest import fake_model, loop_kafka, loop_redis, start

__all__ = ["fake_model", "loop_kafka", "loop_redis", "start"]
