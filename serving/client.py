"""How a recommendation service calls the gateway: `Client`, and `AsyncClient` with the same methods to await.

    with Client("http://127.0.0.1:8080") as gateway:
        slate = gateway.recommend("anna", candidates=["n1", "n2", "n3"], count=2)
        gateway.outcomes([{"request_id": slate.request_id, "item_id": slate.items[0].id, "kind": "click"}])

What readers saw elsewhere (a front page that editors made, a search result, a newsletter) is told with `observe`; outcomes refer to it
in the same way.

A call that finds no gateway, or one that cannot take more just now (429, 503), is made again after a growing pause until its
deadline. Outcomes and observed slates get their ids here, before the first try, so that one that arrives twice counts once.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec

from feedback.clock import now_us
from feedback.errors import EventError, UnavailableError, UsageError
from feedback.events import Value
from serving.gateway.messages import (
    Candidate,
    ObserveRequest,
    ObserveResponse,
    OutcomesResponse,
    Problem,
    RecommendRequest,
    RecommendResponse,
)

RETRIED: Final = frozenset({429, 502, 503, 504})
"""Statuses after which a call is made again."""

_SLATE: Final = msgspec.json.Decoder(RecommendResponse)
_TAKEN: Final = msgspec.json.Decoder(ObserveResponse)
_VERDICTS: Final = msgspec.json.Decoder(OutcomesResponse)


class _Calls:
    """What both clients share: requests to bytes, answers to types or errors, pauses between tries."""

    def __init__(self, url: str, *, key: str = "", deadline_s: float = 30.0) -> None:
        """`url` of the gateway; `key`: the API key; `deadline_s`: for how long a call is tried."""
        self.url, self.deadline_s = url, deadline_s
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def _slate_body(
        self,
        user: str,
        candidates: Iterable[str | Candidate] | None,
        count: int | None,
        context: Mapping[str, Value] | None,
        event_time: int | None,
        request_id: str | None,
    ) -> bytes:
        listed = None if candidates is None else _listed(candidates)
        request = RecommendRequest(
            user=user,
            context=dict(context or {}),
            candidates=listed,
            count=count,
            event_time=event_time,
            request_id=request_id,
        )
        return msgspec.json.encode(request)

    def _observed_body(
        self,
        user: str,
        items: Iterable[str | Candidate],
        context: Mapping[str, Value] | None,
        event_time: int | None,
        request_id: str | None,
    ) -> bytes:
        # Named and dated before the first try, as outcomes are.
        request = ObserveRequest(
            user=user,
            items=_listed(items),
            context=dict(context or {}),
            event_time=now_us() if event_time is None else event_time,
            request_id=uuid.uuid4().hex if request_id is None else request_id,
        )
        return msgspec.json.encode(request)

    def _outcomes_body(self, outcomes: Sequence[Mapping[str, Any]]) -> bytes:
        now = now_us()
        # Named and dated before the first try: a second one must not make another outcome of it, or a later one.
        return msgspec.json.encode(
            [{"event_id": uuid.uuid4().hex, "event_time": now, "sent_time": now} | dict(o) for o in outcomes]
        )

    def _pauses(self, deadline: float) -> Iterator[float]:
        """Pauses between tries: doubling, with jitter, none beyond the deadline."""
        pause = 0.05
        while (left := deadline - time.monotonic()) > 0:
            yield min(left, pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 2.0)

    def _checked(self, answer: httpx.Response) -> bytes:
        """The body of a good answer.

        Raises:
            EventError: 422, with the field.
            UsageError: any other refusal (401, 403, 404, 413, …).
            UnavailableError: the gateway has failed.
        """
        if answer.is_success:
            return answer.content
        problem = _problem(answer)
        if answer.status_code == 422:
            raise EventError("refused", field=problem.field, allowed=problem.detail)
        text = f"{answer.request.url} answers {answer.status_code}: {problem.title}: {problem.detail}"
        raise UnavailableError(text) if answer.status_code >= 500 or answer.status_code == 429 else UsageError(text)

    def _gave_up(self, error: Exception | None) -> UnavailableError:
        return UnavailableError(f"{self.url}: no answer within {self.deadline_s:g} s: {error!r}")


class Client(_Calls):
    """Calls the gateway and waits. Safe to use from several threads."""

    def __init__(self, url: str, *, key: str = "", deadline_s: float = 30.0, timeout_s: float = 5.0) -> None:
        """`timeout_s`: of one try."""
        super().__init__(url, key=key, deadline_s=deadline_s)
        self._http = httpx.Client(base_url=url, headers=self._headers, timeout=timeout_s)

    def recommend(
        self,
        user: str,
        *,
        candidates: Iterable[str | Candidate] | None = None,
        count: int | None = None,
        context: Mapping[str, Value] | None = None,
        event_time: int | None = None,
        request_id: str | None = None,
    ) -> RecommendResponse:
        """Ask for a slate. `candidates`: item ids, or with features; none: the gateway's pool.

        Raises:
            EventError: the request is not as the contract says; `field` names where.
            UsageError: the key does not allow it.
            UnavailableError: no answer before the deadline.
        """
        body = self._slate_body(user, candidates, count, context, event_time, request_id)
        return _SLATE.decode(self._post("/v1/recommend", body))

    def observe(
        self,
        user: str,
        *,
        items: Iterable[str | Candidate],
        context: Mapping[str, Value] | None = None,
        event_time: int | None = None,
        request_id: str | None = None,
    ) -> ObserveResponse:
        """Tell of a slate that something else chose: `items` in the order shown, ids or with features; `event_time` µs, default now.

        `request_id`: the name that outcomes will refer to, default a new one; of two slates with one name the first counts.
        Raises as `recommend` does.
        """
        body = self._observed_body(user, items, context, event_time, request_id)
        return _TAKEN.decode(self._post("/v1/slates", body))

    def outcomes(self, outcomes: Sequence[Mapping[str, Any]]) -> OutcomesResponse:
        """Send outcomes (`request_id`, `item_id`, `kind`, and what `OutcomeIn` has besides). Raises as `recommend` does."""
        return _VERDICTS.decode(self._post("/v1/outcomes", self._outcomes_body(outcomes)))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, body: bytes) -> bytes:
        last: Exception | None = None
        for pause in self._pauses(time.monotonic() + self.deadline_s):
            try:
                answer = self._http.post(path, content=body)
                if answer.status_code not in RETRIED:
                    return self._checked(answer)
                last = httpx.HTTPStatusError(f"{answer.status_code}", request=answer.request, response=answer)
            except httpx.TransportError as error:
                last = error
            time.sleep(pause)
        raise self._gave_up(last)


class AsyncClient(_Calls):
    """`Client` for asyncio: the same methods, awaited."""

    def __init__(
        self, url: str, *, key: str = "", deadline_s: float = 30.0, timeout_s: float = 5.0, connections: int = 100
    ) -> None:
        """`timeout_s`: of one try; `connections`: open at most."""
        super().__init__(url, key=key, deadline_s=deadline_s)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(base_url=url, headers=self._headers, timeout=timeout_s, limits=limits)

    async def recommend(
        self,
        user: str,
        *,
        candidates: Iterable[str | Candidate] | None = None,
        count: int | None = None,
        context: Mapping[str, Value] | None = None,
        event_time: int | None = None,
        request_id: str | None = None,
    ) -> RecommendResponse:
        """Ask for a slate, as `Client.recommend` does."""
        body = self._slate_body(user, candidates, count, context, event_time, request_id)
        return _SLATE.decode(await self._post("/v1/recommend", body))

    async def observe(
        self,
        user: str,
        *,
        items: Iterable[str | Candidate],
        context: Mapping[str, Value] | None = None,
        event_time: int | None = None,
        request_id: str | None = None,
    ) -> ObserveResponse:
        """Tell of a slate that something else chose, as `Client.observe` does."""
        body = self._observed_body(user, items, context, event_time, request_id)
        return _TAKEN.decode(await self._post("/v1/slates", body))

    async def outcomes(self, outcomes: Sequence[Mapping[str, Any]]) -> OutcomesResponse:
        """Send outcomes, as `Client.outcomes` does."""
        return _VERDICTS.decode(await self._post("/v1/outcomes", self._outcomes_body(outcomes)))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _post(self, path: str, body: bytes) -> bytes:
        last: Exception | None = None
        for pause in self._pauses(time.monotonic() + self.deadline_s):
            try:
                answer = await self._http.post(path, content=body)
                if answer.status_code not in RETRIED:
                    return self._checked(answer)
                last = httpx.HTTPStatusError(f"{answer.status_code}", request=answer.request, response=answer)
            except httpx.TransportError as error:
                last = error
            await asyncio.sleep(pause)
        raise self._gave_up(last)


def _listed(items: Iterable[str | Candidate]) -> list[Candidate]:
    return [Candidate(id=item) if isinstance(item, str) else item for item in items]


def _problem(answer: httpx.Response) -> Problem:
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        return Problem(
            type="about:blank", title=answer.reason_phrase, status=answer.status_code, detail=answer.text[:200]
        )
