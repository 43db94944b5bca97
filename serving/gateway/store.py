"""Real-time features and the pools, from Redis.

A request costs one round trip: the reader's hash and the hashes of the items that are not in the cache. The cache keeps an
item's features for `cache_s`, by the wall and by event time both, so that fifty candidates that everybody is shown are not
decoded a thousand times a second; what was used goes into the event either way. The pools are read in the background: a
request without candidates, and the ranking that stands in for a model, cost no round trip and survive Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from feedback import state
from feedback.clock import SECOND
from feedback.errors import CorruptError
from feedback.events import Value
from feedback.features import Feature
from feedback.settings import RedisSettings
from serving.gateway.breaker import Breaker
from serving.gateway.resp import Resp

CACHE_S: Final = 0.25
"""How old an item's features may be."""

POOL_S: Final = 1.0
"""How old the pools may be while Redis answers."""

_KEEP: Final = 5_000
_LOG: Final = logging.getLogger("everloop.gateway.store")
_NEVER: Final[tuple[float, int, Mapping[str, Value]]] = (-1.0e9, 0, {})
_NOBODY: Final[Mapping[str, Value]] = {}


@dataclass(frozen=True, slots=True)
class Features:
    """What Redis knows for one request. Where it knows nothing the specification's defaults stand in."""

    user: Mapping[str, Value] = field(default_factory=dict)
    """The reader's features."""
    items: Sequence[Mapping[str, Value]] = ()
    """The candidates', in their order; empty when none are wanted or known."""
    available: bool = True
    """Whether Redis answered (or need not be asked)."""


class Store:
    """Reads features for requests, and the pools on its own."""

    def __init__(
        self,
        settings: RedisSettings,
        features: Sequence[Feature],
        breaker: Breaker,
        *,
        pool: int,
        cache_s: float = CACHE_S,
    ) -> None:
        self._namespace, self._timeout_s = settings.namespace, settings.timeout_s
        self._breaker, self._size, self._cache_s = breaker, pool, cache_s
        self._wants_user = any(feature.source == "user_state" for feature in features)
        self._wants_items = any(feature.source == "item_state" for feature in features)
        self._resp = Resp(str(settings.url))
        self._redis: Any = aioredis.from_url(
            str(settings.url),
            socket_timeout=None,
            socket_connect_timeout=max(settings.timeout_s, 1.0),
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )
        self._cache: dict[str, tuple[float, int, Mapping[str, Value]]] = {}
        self.fresh: list[str] = []
        self.popular: dict[str, float] = {}

    async def read(self, user: str, items: Sequence[str], *, event_time: int, now: float, limit_s: float) -> Features:
        """The features of one reader and some items at `event_time` (µs). `now`: a monotonic clock, s."""
        if not self._wants_user and not self._wants_items:
            return Features()
        missing = self._missing(items, event_time, now) if self._wants_items else []
        keys = [state.user_key(self._namespace, user)] if self._wants_user else []
        keys += [state.item_key(self._namespace, item) for item in missing]
        if keys and not self._breaker.allows(now):
            return Features(available=False)
        try:
            async with asyncio.timeout(min(limit_s, self._timeout_s)):
                hashes = await self._hashes(keys) if keys else []
            found = self._features(hashes, missing, event_time, now)
        except (RedisError, OSError, TimeoutError, CorruptError) as error:
            self._breaker.failed(now)
            _LOG.warning("redis: %r: default features stand in", error)
            return Features(available=False)
        if keys:
            self._breaker.succeeded()
        rows = [self._cache[item][2] for item in items] if self._wants_items else []
        return Features(found, rows)

    def candidates(self, count: int) -> list[str]:
        """Fresh and popular items in turn, each once."""
        mixed: dict[str, None] = {}
        popular = list(self.popular)
        for i in range(max(len(self.fresh), len(popular))):
            for pool in (self.fresh, popular):
                if i < len(pool):
                    mixed[pool[i]] = None
            if len(mixed) >= count:
                break
        return list(mixed)[:count]

    async def watch_pools(self) -> None:
        """Keep the pools fresh, for ever."""
        while True:
            try:
                await asyncio.wait_for(self._read_pools(), 1.0)
            except (RedisError, OSError, TimeoutError) as error:
                _LOG.warning("redis: pools not read: %r", error)
            await asyncio.sleep(POOL_S)

    async def close(self) -> None:
        """Close the connections."""
        self._resp.close()
        await self._redis.aclose()

    async def _hashes(self, keys: Sequence[str]) -> list[Mapping[bytes, bytes]]:
        replies = await self._resp.call([("HGETALL", key) for key in keys])
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replies]

    async def _read_pools(self) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.zrevrange(state.pool_key(self._namespace, state.POOL_FRESH), 0, self._size - 1)
        pipe.zrevrange(state.pool_key(self._namespace, state.POOL_POPULAR), 0, _KEEP - 1, withscores=True)
        fresh, popular = await pipe.execute()
        self.fresh = [item.decode() for item in fresh]
        self.popular = {item.decode(): float(heat) for item, heat in popular}

    def _missing(self, items: Sequence[str], event_time: int, now: float) -> list[str]:
        cache, horizon = self._cache, round(self._cache_s * SECOND)
        if len(cache) > _KEEP:
            cache.clear()
        oldest, low, high = now - self._cache_s, event_time - horizon, event_time + horizon
        entries = [(item, cache.get(item, _NEVER)) for item in items]
        return [item for item, entry in entries if entry[0] < oldest or not low <= entry[1] <= high]

    def _features(
        self, hashes: Sequence[Mapping[bytes, bytes]], missing: Sequence[str], event_time: int, now: float
    ) -> Mapping[str, Value]:
        rest = hashes[1:] if self._wants_user else hashes
        for item, fields in zip(missing, rest, strict=True):
            self._cache[item] = (now, event_time, state.item_features(state.decode_item(fields), event_time))
        if not self._wants_user:
            return _NOBODY
        return state.user_features(state.decode_user(hashes[0]), event_time)
