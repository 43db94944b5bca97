"""The one configuration: each group is declared by the part that uses it."""

from __future__ import annotations

from dataclasses import dataclass

from everloop.config.addresses import AddressSettings
from everloop.runtime.settings import RuntimeSettings
from everloop.steer.settings import SteerSettings
from feedback.errors import ConfigError
from feedback.features import Feature, FeatureSpec
from feedback.settings import KafkaSettings, RedisSettings
from serving.follower.settings import FollowerSettings
from serving.gateway.settings import GatewaySettings
from streams.settings import StreamsSettings
from trainer.settings import TrainerSettings

FEATURES = (
    Feature(name="user", source="user"),
    Feature(name="item", source="item"),
    Feature(name="hour", source="hour"),
)
"""What every recommendation has: who, what and when."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings, by group; a group is a table in everloop.toml."""

    kafka: KafkaSettings = KafkaSettings()
    """How every part reaches Kafka."""
    redis: RedisSettings = RedisSettings()
    """How the gateway and the streams reach Redis."""
    features: tuple[Feature, ...] = FEATURES
    """What the model sees, in order, each a table [[features]]. Another list is another model line. Default: user, item, hour."""
    gateway: GatewaySettings = GatewaySettings()
    """What answers recommendation services."""
    streams: StreamsSettings = StreamsSettings()
    """The join and the real-time features."""
    trainer: TrainerSettings = TrainerSettings()
    """What the trainer learns and how."""
    follower: FollowerSettings = FollowerSettings()
    """How a model server is kept fresh."""
    steer: SteerSettings = SteerSettings()
    """When a canary is judged, and when a version is rolled back without being told."""
    addresses: AddressSettings = AddressSettings()
    """Where the parts find each other."""
    runtime: RuntimeSettings = RuntimeSettings()
    """What `everloop up` starts, and how patiently it watches it."""

    @property
    def spec(self) -> FeatureSpec:
        """The feature specification."""
        return FeatureSpec(features=self.features)

    def check(self) -> None:
        """Raise ConfigError where groups contradict each other."""
        names = self.spec.names()
        for at, name in enumerate(names):
            if name in names[:at]:
                raise ConfigError(key=f"features.{at}.name", value=name, allowed="a name that no other feature has")
        if not names:
            raise ConfigError(key="features", value=[], allowed="at least one feature")
        self.trainer.model.check(self.spec)
        model = self.trainer.model.name
        for key, value in (("gateway.model", self.gateway.model), ("follower.model", self.follower.model)):
            if value != model:
                raise ConfigError(key=key, value=value, allowed=f"the same as trainer.model.name, {model!r}")
