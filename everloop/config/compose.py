"""The one configuration: each group is declared by the part that uses it."""

from __future__ import annotations

from dataclasses import dataclass

from everloop.config.addresses import AddressSettings
from everloop.runtime.settings import RuntimeSettings
from feedback.settings import KafkaSettings, RedisSettings
from serving.follower.settings import FollowerSettings
from serving.gateway.settings import GatewaySettings
from trainer.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings, by group; a group is a table in everloop.toml."""

    kafka: KafkaSettings = KafkaSettings()
    """How every part reaches Kafka."""
    redis: RedisSettings = RedisSettings()
    """How the gateway and the streams reach Redis."""
    gateway: GatewaySettings = GatewaySettings()
    """What answers recommendation services."""
    trainer: TrainerSettings = TrainerSettings()
    """What the trainer learns and how."""
    follower: FollowerSettings = FollowerSettings()
    """How a model server is kept fresh."""
    addresses: AddressSettings = AddressSettings()
    """Where the parts find each other."""
    runtime: RuntimeSettings = RuntimeSettings()
    """What `everloop up` starts, and how patiently it watches it."""
