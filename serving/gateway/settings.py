"""The gateway's settings: section [gateway] of everloop.toml."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from feedback.errors import ConfigError
from feedback.events import MAX_SLATE
from feedback.settings import Count, NonNegative, Positive, Share

Scope = Literal["recommend", "outcomes", "admin", "replay"]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """One API key. The key itself is nowhere kept: `python -m serving.gateway.access NAME SCOPE…` makes one."""

    name: str
    """Whose it is; stands in metrics and logs."""
    sha256: Digest
    """Hex SHA-256 of the key."""
    scopes: tuple[Scope, ...] = ("recommend", "outcomes")
    """What it may do. `replay`: set event_time and request_id; `admin`: read /v1/status and /metrics. Default: recommend, outcomes."""
    rate: NonNegative = 0.0
    """Requests per second that it may make in the long run; 0 (default): no limit."""
    burst: Count = 100
    """Requests that it may make at once. Default 100."""


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on. Default: loopback. Another one is refused while there are no keys."""
    max_body: Count = 1_048_576
    """Bytes that a request's body may have. Default 1 MiB."""
    body_timeout_s: Positive = 10.0
    """Time in which a request's body must have come. Default 10 s."""
    head_timeout_s: Positive = 10.0
    """Time in which a request's head must have come, from its first byte or from the connection's beginning. Default 10 s."""
    max_head: Count = 65_536
    """Bytes that a request's head may have. Default 64 KiB."""
    write_timeout_s: Positive = 10.0
    """How long a client may take nothing of an answer that waits for it. Default 10 s."""
    max_connections: Count = 10_000
    """Connections at most; at most what the system allows this process, too. Beyond, the one that has waited longest without
    a whole request makes room. Default 10,000."""
    keep_alive_s: Positive = 60.0
    """How long an idle connection stays open. Default 60 s."""
    backlog: Count = 2048
    """Connections that may wait to be accepted. Default 2048."""
    tls_cert: str = ""
    """PEM file of the certificate chain; empty (default): plain HTTP."""
    tls_key: str = ""
    """PEM file of its private key."""


@dataclass(frozen=True, kw_only=True)
class SlateSettings:
    """Bounds of what can be asked."""

    count: Count = 10
    """Positions of a slate whose request names none. Default 10."""
    max_count: Annotated[int, Meta(ge=1, le=MAX_SLATE)] = 200
    """Positions at most. Default 200."""
    max_candidates: Count = 1000
    """Candidates of one request at most. Default 1000."""
    pool: Count = 100
    """Candidates taken from the pool in Redis when a request brings none. Default 100."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How scores become a slate."""

    name: Literal["greedy", "epsilon_greedy", "softmax", "thompson"] = "greedy"
    """The ranking policy. Default greedy."""
    epsilon: Share = 0.1
    """`epsilon_greedy`, `thompson`: share of slots filled uniformly. Default 0.1."""
    temperature: Positive = 0.3
    """`softmax`: of the Plackett–Luce weights exp(logit / temperature). Default 0.3."""
    uniform_share: Share = 0.0
    """Share of requests that a uniform policy answers whole. Default 0."""


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """Time that a request may take, and when a part that fails is left alone."""

    request_s: Positive = 0.5
    """All of a recommend request; what is left bounds each step. Default 0.5 s."""
    model_s: Positive = 0.3
    """One Predict call. Default 0.3 s."""
    failures: Count = 5
    """Failures in a row after which a breaker opens. Default 5."""
    cooldown_s: Positive = 1.0
    """How long an open breaker refuses before it lets one call through. Default 1 s."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The model server's connection."""

    max_rows: Count = 1024
    """Rows of one Predict call; requests that wait go together up to that many. Default 1024."""
    max_calls: Count = 2
    """Predict calls in flight; what comes meanwhile waits and goes together. Default 2."""
    tls: bool = False
    """Whether the connection is encrypted. Default no."""
    ca_file: str = ""
    """PEM file of the certificate authority; empty: the system's."""


@dataclass(frozen=True, kw_only=True)
class SpoolSettings:
    """The write-ahead log between an answer and Kafka."""

    max_bytes: Count = 1_073_741_824
    """Bytes that may wait. Beyond: recommend answers with `logged: false`, outcomes get 503. Default 1 GiB (300,000 slates of 20)."""
    segment_bytes: Count = 16_777_216
    """Size at which a file is closed and the next begun. Default 16 MiB."""
    fsync: Literal["never", "interval", "always"] = "interval"
    """`never`: a killed process loses nothing, a machine without power may. `interval`: it loses at most `fsync_s`. `always`: nothing,
    and every answer waits for the disk. Default interval."""
    fsync_s: Positive = 0.5
    """Interval of `interval`. Default 0.5 s."""
    linger_s: NonNegative = 0.005
    """How long records gather before they are sent together. Default 5 ms."""
    flush_s: NonNegative = 5.0
    """How long a stopping gateway waits for Kafka to take what is left (the rest waits on disk). Default 5 s."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Section [gateway]."""

    model: str = "news"
    """The model that answers. Default news."""
    http: HttpSettings = field(default_factory=HttpSettings)
    """The HTTP server."""
    grpc_port: Annotated[int, Meta(ge=-1, le=65535)] = -1
    """Port of the gRPC twin, on `http.host`; 0: a free one; -1 (default): none."""
    keys: tuple[KeySettings, ...] = ()
    """API keys. Default: none, and everything is allowed, from this machine alone."""
    slate: SlateSettings = field(default_factory=SlateSettings)
    """Bounds of a slate."""
    policy: PolicySettings = field(default_factory=PolicySettings)
    """How scores become a slate."""
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    """Time limits and breakers."""
    server: ModelSettings = field(default_factory=ModelSettings)
    """The model server's connection."""
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    """The write-ahead log."""
    ticks: bool = True
    """Whether to write a tick to every partition of predictions and outcomes each `tick_s`. Off in a replay, which has its own."""
    tick_s: Positive = 1.0
    """Interval of the ticks. Default 1 s."""
    max_future_s: NonNegative = 60.0
    """How far the event_time of an outcome, or of a slate that something else chose, may lie ahead of this machine's clock.
    Default 60 s."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if not self.keys and not _loopback(self.http.host):
            allowed = "a loopback address while gateway.keys is empty: whoever can reach the port may do everything"
            raise ConfigError(key="gateway.http.host", value=self.http.host, allowed=allowed)
        if bool(self.http.tls_cert) != bool(self.http.tls_key):
            raise ConfigError(key="gateway.http.tls_key", value=self.http.tls_key, allowed="set together with tls_cert")
        if self.slate.count > self.slate.max_count:
            allowed = f"at most gateway.slate.max_count = {self.slate.max_count}"
            raise ConfigError(key="gateway.slate.count", value=self.slate.count, allowed=allowed)
        if self.spool.segment_bytes * 2 > self.spool.max_bytes:
            allowed = f"at most half of gateway.spool.max_bytes = {self.spool.max_bytes}"
            raise ConfigError(key="gateway.spool.segment_bytes", value=self.spool.segment_bytes, allowed=allowed)
        if len({key.name for key in self.keys}) != len(self.keys):
            raise ConfigError(key="gateway.keys", value=[key.name for key in self.keys], allowed="names that differ")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
