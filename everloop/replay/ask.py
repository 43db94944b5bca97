"""One request to the gateway, tried again until it is answered or its client gives up."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import aiohttp
import msgspec

from everloop.logs.slates import Slate
from everloop.replay.tally import Tally
from feedback.errors import UsageError

_RETRIABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE_S: Final = 0.05
_MOST_PAUSE_S: Final = 1.0
_ATTEMPT_S: Final = 10.0


class Asker:
    """A recommendation service's side of the gateway."""

    def __init__(self, gateway: str, tally: Tally, *, key: str = "", patience_s: float = 30.0, most: int = 32) -> None:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        # aiohttp: a tenth of httpx's time per request, and the replayer shares its cores with the loop.
        self._client = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=most),
            timeout=aiohttp.ClientTimeout(total=_ATTEMPT_S, connect=patience_s),
        )
        self._url = gateway.rstrip("/") + "/v1/recommend"
        self._tally, self._patience = tally, patience_s

    async def ask(self, slate: Slate) -> bool:
        """Ask for one slate; whether it was answered within the client's patience.

        Raises:
            UsageError: the gateway refuses the request for what it says: no retry will mend that.
        """
        tally, body = self._tally, request(slate)
        tally.slates += 1
        tally.impressions += len(slate.items)
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            answer = await self._attempt(body)
            if answer is not None and answer.get("logged", True):
                tally.requests += 1
                tally.first_answer_s = tally.first_answer_s or time.monotonic()
                tally.latencies_s.append(time.monotonic() - began)
                tally.versions[int(answer["model"]["version"])] += 1
                if answer.get("fallback"):
                    tally.fallbacks[str(answer["fallback"])] += 1
                return True
            if answer is not None:
                tally.unlogged += 1
            if time.monotonic() + pause > deadline:
                tally.failed_requests += 1
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE_S)

    async def _attempt(self, body: bytes) -> dict[str, Any] | None:
        self._tally.attempts += 1
        try:
            async with self._client.post(self._url, data=body) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._tally.problems[type(error).__name__] += 1
            return None
        if status == 200:
            answer: dict[str, Any] = msgspec.json.decode(content)
            return answer
        self._tally.problems[f"status {status}"] += 1
        if status not in _RETRIABLE:
            words = content[:500].decode(errors="replace")
            raise UsageError(f"the gateway refuses a request of the log ({status}): {words}")
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def request(slate: Slate) -> bytes:
    """The body of a slate's request: the logged candidates, all to be ranked, at the log's own time."""
    names, columns = list(slate.features), list(slate.features.values())
    rows: Any = zip(*columns, strict=True) if columns else ((),) * len(slate.items)
    return msgspec.json.encode(
        {
            "user": slate.user,
            "context": slate.context,
            "candidates": [
                {"id": item, "features": dict(zip(names, row, strict=True))}
                for item, row in zip(slate.items, rows, strict=True)
            ],
            "count": len(slate.items),
            "event_time": slate.event_time,
            "request_id": slate.request_id,
        }
    )
