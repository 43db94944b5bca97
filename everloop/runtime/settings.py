"""Settings of the local runtime: what `everloop up` starts, and how patiently it watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from feedback.errors import ConfigError
from feedback.settings import Count, NonNegative, Positive

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0: a free one."""


@dataclass(frozen=True, kw_only=True)
class KafkaNodeSettings:
    """The Kafka node that `up` starts when no broker is named."""

    port: Port = 0
    """Port it listens on, on the loopback interface. Default 0: a free one."""
    heap_mib: Count = 384
    """The JVM's heap, MiB. Default 384; benches of full pipelines want 1024."""
    internal_partitions: Count = 8
    """Partitions of the offsets and transaction state topics; few start quickly. Default 8."""
    ready_timeout_s: Positive = 90.0
    """How long a start may take, seconds; after a kill it recovers first. Default 90 s."""
    stop_timeout_s: Positive = 20.0
    """How long a clean stop may take before the process is killed. Default 20 s."""


@dataclass(frozen=True, kw_only=True)
class RedisNodeSettings:
    """The Redis server that `up` starts when none is named."""

    port: Port = 0
    """Port it listens on, on the loopback interface. Default 0: a free one."""
    appendonly: bool = False
    """Whether every write goes to a log on disk. Default off: snapshots, since features are made again from events."""
    maxmemory_mib: Count = 256
    """Memory for data, MiB; beyond it the least recently used keys go. Default 256."""
    ready_timeout_s: Positive = 20.0
    """How long a start may take. Default 20 s."""


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    """The supervisor and the servers that it starts beside the loop's own parts."""

    kafka: KafkaNodeSettings = KafkaNodeSettings()
    """The Kafka node."""
    redis: RedisNodeSettings = RedisNodeSettings()
    """The Redis server."""
    readers_first: bool = True
    """Whether learning (trainer, join, steering) stands back for answering where they share processors. Default on."""
    backoff_first_s: Positive = 0.25
    """Pause before a part that died is started again the first time. Default 0.25 s; it doubles."""
    backoff_most_s: Positive = 15.0
    """The longest such pause. Default 15 s."""
    backoff_forget_s: Positive = 30.0
    """A part that lived this long is in good health: its next pause is the first again. Default 30 s."""
    attempts: Count = 5
    """How often a part that was never ready is started before `up` gives up. Default 5."""
    ready_timeout_s: Positive = 120.0
    """How long a part may take to become ready before it is started again. Default 120 s."""
    stop_timeout_s: NonNegative = 20.0
    """How long a part may take to stop before it is killed. Default 20 s."""
    log_bytes: Count = 32 * 2**20
    """Size at which a part's log file is renamed to `.log.1` and begun anew. Default 32 MiB."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.backoff_most_s < self.backoff_first_s:
            allowed = f"at least runtime.backoff_first_s = {self.backoff_first_s}"
            raise ConfigError(key="runtime.backoff_most_s", value=self.backoff_most_s, allowed=allowed)
