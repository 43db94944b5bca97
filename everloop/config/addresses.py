"""Where the parts find each other: what neither of two parts owns."""

from __future__ import annotations

from dataclasses import dataclass

from everloop.runtime.settings import Port
from feedback.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AddressSettings:
    """Where the parts find each other. `up` sets these to free ports, unless you set them."""

    model_server: str = "127.0.0.1:8500"
    """HOST:PORT of the model server's gRPC, for the follower and the gateway. Default 127.0.0.1:8500."""
    host: str = "127.0.0.1"
    """Address on which streams, trainer and follower answer metrics and health; 0.0.0.0 in a container. Default loopback."""
    replica: str = ""
    """Name of this copy of a part, the same after a restart: of a streams worker, of the follower's model server. Default: this
    machine's name."""
    gateway_port: Port = 8080
    """Port of the gateway's HTTP. Default 8080."""
    streams_port: Port = 9101
    """Port of the streams worker's metrics and health. Default 9101."""
    trainer_port: Port = 9102
    """Port of the trainer's metrics and health. Default 9102."""
    follower_port: Port = 9103
    """Port of the follower's metrics and health. Default 9103."""
    steer_port: Port = 9104
    """Port of the steering watcher's health and status. Default 9104."""

    def check(self) -> None:
        """Raise ConfigError where an address is none."""
        host, _, port = self.model_server.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(key="addresses.model_server", value=self.model_server, allowed="must be HOST:PORT")
