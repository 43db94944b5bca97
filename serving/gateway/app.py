"""The routes, as one ASGI application.

Those that carry the load are served from ASGI's own messages; the rest goes through Starlette.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from serving.gateway import openapi
from serving.gateway.access import Access
from serving.gateway.disk import Disk
from serving.gateway.http import (
    DisconnectedError,
    Receive,
    Scope,
    Send,
    key_of,
    read_body,
    respond,
    respond_problem,
)
from serving.gateway.messages import ObserveRequest, RecommendRequest, Status
from serving.gateway.metrics import Metrics
from serving.gateway.observe import Observer
from serving.gateway.outcomes import Collector
from serving.gateway.problems import MEDIA_TYPE, ProblemError, refused
from serving.gateway.recommend import Recommender
from serving.gateway.settings import HttpSettings

_LOG: Final = logging.getLogger("everloop.gateway")
_REQUEST: Final = msgspec.json.Decoder(RecommendRequest)
_SLATE: Final = msgspec.json.Decoder(ObserveRequest)
_ENCODE: Final = msgspec.json.Encoder().encode

T = TypeVar("T")

Handler = Callable[[Scope, bytes], Awaitable[tuple[int, bytes]]]


class App:
    """The gateway's HTTP interface."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        access: Access,
        recommender: Recommender,
        observer: Observer,
        collector: Collector,
        disk: Disk,
        metrics: Metrics,
        status: Callable[[], Status],
    ) -> None:
        self._settings, self._access, self._metrics, self._status = settings, access, metrics, status
        self._recommender, self._observer = recommender, observer
        self._collector, self._disk = collector, disk
        self._in_flight = 0
        metrics.in_flight.set_function(lambda: self._in_flight)
        self._hot: dict[str, Handler] = {
            "/v1/recommend": self._recommend,
            "/v1/slates": self._slates,
            "/v1/outcomes": self._outcomes,
        }
        self._counted = {
            (route, status): metrics.requests.labels(route, str(status))
            for route, status in (("/v1/recommend", 200), ("/v1/slates", 202), ("/v1/outcomes", 202))
        }
        self._rest = self._starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI request."""
        handler = self._hot.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await self._rest(scope, receive, send)  # type: ignore[arg-type]
            return
        self._in_flight += 1
        try:
            status = await self._guarded(handler, scope, receive, send)
        except DisconnectedError:
            status = 499
        finally:
            self._in_flight -= 1
        counter = self._counted.get((scope["path"], status)) or self._metrics.requests.labels(
            scope["path"], str(status)
        )
        counter.inc()

    async def _guarded(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> int:
        try:
            body = await read_body(receive, limit=self._settings.max_body, timeout_s=self._settings.body_timeout_s)
            status, answer = await handler(scope, body)
        except ProblemError as problem:
            await respond_problem(send, problem)
            return problem.status
        except DisconnectedError:
            raise
        except Exception:  # noqa: BLE001 - logged; the client gets a problem, the process goes on
            # The outermost loop of a request: whatever went wrong is for the log, not for the client.
            _LOG.exception("%s has failed", scope["path"])
            await respond_problem(send, ProblemError(500))
            return 500
        await respond(send, status, answer)
        return status

    async def _recommend(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        caller = self._access.admit(key_of(scope), "recommend", asyncio.get_running_loop().time())
        request = _decoded(_REQUEST, body)
        if "replay" not in caller.scopes:
            for field in ("event_time", "request_id"):
                if getattr(request, field) is not None:
                    raise ProblemError(
                        403, f"{field} is set by the gateway: key {caller.name} lacks scope replay", field=field
                    )
        answer = await self._recommender.answer(request)
        await self._disk.settle()
        return 200, _ENCODE(answer)

    async def _slates(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        self._access.admit(key_of(scope), "outcomes", asyncio.get_running_loop().time())
        answer = await self._observer.take(_decoded(_SLATE, body))
        await self._disk.settle()
        return 202, _ENCODE(answer)

    async def _outcomes(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        self._access.admit(key_of(scope), "outcomes", asyncio.get_running_loop().time())
        answer = self._collector.take(body)
        await self._disk.settle()
        return 202, _ENCODE(answer)

    def _starlette(self) -> Starlette:
        version = _version()
        document, page = _ENCODE(openapi.document(version)), openapi.page(version)

        async def live(_: Request) -> Response:
            return _json({"status": "ok"})

        async def ready(_: Request) -> Response:
            found = self._status()
            full = bool(found.spool["full"])
            return _json({"status": "spool_full" if full else "ok", "breakers": found.breakers}, 503 if full else 200)

        async def status(request: Request) -> Response:
            self._admin(request)
            return _json(self._status())

        async def measured(request: Request) -> Response:
            self._admin(request)
            self._status()
            return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

        async def described(_: Request) -> Response:
            return Response(document, media_type="application/json")

        async def docs(_: Request) -> Response:
            return HTMLResponse(page)

        async def wrong_method(_: Request) -> Response:
            raise ProblemError(405, "this path takes POST")

        routes = [
            Route("/v1/health/live", live),
            Route("/v1/health/ready", ready),
            Route("/v1/status", status),
            Route("/metrics", measured),
            Route("/openapi.json", described),
            Route("/docs", docs),
            *(Route(path, wrong_method, methods=["GET", "PUT", "DELETE", "PATCH"]) for path in self._hot),
        ]
        handlers: dict[Any, Any] = {ProblemError: _problem, HTTPException: _http_problem}
        return Starlette(routes=routes, exception_handlers=handlers)

    def _admin(self, request: Request) -> None:
        """Where there are keys, figures are for those with scope admin."""
        self._access.admit(key_of(request.scope), "admin", asyncio.get_running_loop().time())


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(error) from error


def _json(body: Any, status: int = 200) -> Response:
    return Response(_ENCODE(body), status_code=status, media_type="application/json")


def _version() -> str:
    try:
        return metadata.version("everloop")
    except metadata.PackageNotFoundError:
        return "0+source"


async def _problem(_: Request, problem: ProblemError) -> Response:
    headers = {"allow": "POST"} if problem.status == 405 else {}
    return Response(problem.body(), status_code=problem.status, media_type=MEDIA_TYPE.decode(), headers=headers)


async def _http_problem(request: Request, error: HTTPException) -> Response:
    status = error.status_code if error.status_code in (404, 405) else 500
    problem = ProblemError(status, f"{request.method} {request.url.path}")
    return Response(problem.body(), status_code=status, media_type=MEDIA_TYPE.decode(), headers=error.headers)
