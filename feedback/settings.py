"""How to reach Kafka and Redis, and the words in which every part declares its settings.

A part's settings are frozen dataclasses; a field's range stands in its type (`Annotated[float, Meta(gt=0)]`), what several
fields must satisfy together in `check()`, which raises ConfigError. `everloop.config` composes, reads and validates them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from feedback.errors import ConfigError

Positive = Annotated[float, Meta(gt=0)]
"""A float above 0."""

NonNegative = Annotated[float, Meta(ge=0)]
"""A float that is 0 or more."""

Share = Annotated[float, Meta(ge=0, le=1)]
"""A share: 0 to 1."""

PositiveShare = Annotated[float, Meta(gt=0, le=1)]
"""A share above 0, at most 1."""

Count = Annotated[int, Meta(ge=1)]
"""A whole number, 1 or more."""

Whole = Annotated[int, Meta(ge=0)]
"""A whole number, 0 or more."""


class Secret(str):
    """A string that is never printed: its repr and `everloop config` show `***`."""

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"


@dataclass(frozen=True, kw_only=True)
class KafkaSettings:
    """How to reach the broker."""

    bootstrap: str = "127.0.0.1:9092"
    """HOST:PORT[,HOST:PORT…]."""
    namespace: str = ""
    """Prefix of every topic and group name, so that several loops can share a broker. Default: none."""
    partitions: Count = 8
    """Partitions of the topics that are keyed by request; fixed once created. Default 8."""
    replication: Count = 1
    """Replicas of each topic. Default 1 (a cluster: 3)."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Kafka's security.protocol."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """SASL mechanism, with SASL_*."""
    sasl_user: str = ""
    """SASL user name."""
    sasl_password: Secret = Secret("")
    """SASL password."""
    ca_file: str = ""
    """PEM file of the certificate authority, with *SSL; empty: the system's."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.security.startswith("SASL") and not self.sasl_mechanism:
            raise ConfigError(key="kafka.sasl_mechanism", value="", allowed="needed with security = SASL_*")

    def client(self) -> dict[str, Any]:
        """Keyword arguments that kafka-python's clients take."""
        # By default a client waits up to 30 s before it looks for a broker that is back again.
        return self._common() | {"bootstrap_servers": self.bootstrap.split(","), "reconnect_backoff_max_ms": 1_000}

    def aio_client(self) -> dict[str, Any]:
        """Keyword arguments that aiokafka's clients take."""
        return self._common() | {"bootstrap_servers": self.bootstrap}

    def _common(self) -> dict[str, Any]:
        options: dict[str, Any] = {"security_protocol": self.security}
        if self.sasl_mechanism:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_user,
                "sasl_plain_password": str(self.sasl_password),
            }
        if self.security.endswith("SSL"):
            options["ssl_context"] = ssl.create_default_context(cafile=self.ca_file or None)
        return options

    def name(self, suffix: str) -> str:
        """A topic's or group's name in this loop's namespace."""
        return f"{self.namespace}{suffix}"


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """How to reach Redis."""

    url: Secret = Secret("redis://127.0.0.1:6379/0")
    """redis:// or rediss:// URL, with the password if there is one."""
    namespace: str = ""
    """Prefix of every key. Default: none."""
    timeout_s: Positive = 0.05
    """Time that one round trip may take before its reader goes on without. Default 0.05 s."""
