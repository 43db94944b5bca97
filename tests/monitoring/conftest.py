"""The stages of the parts whose metrics are read."""

from __future__ import annotations

from tests.follower.conftest import fast, follow, line, model, server, topics
from tests.trainer.loop.conftest import world

__all__ = ["fast", "follow", "line", "model", "server", "topics", "world"]
