"""ASGI's own words: reading a body with a bound and a time limit, and sending an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serving.gateway.problems import MEDIA_TYPE, ProblemError

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

JSON = b"application/json"


class DisconnectedError(Exception):
    """The client has gone; nobody waits for an answer."""


async def read_body(receive: Receive, *, limit: int, timeout_s: float) -> bytes:
    """Read a request's body.

    Raises:
        ProblemError: 413 more than `limit` bytes, 408 not whole after `timeout_s`.
        DisconnectedError: the client went away.
    """
    message = await _first(receive, timeout_s)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        try:
            async with asyncio.timeout(timeout_s):
                body = await _rest(receive, body, limit)
        except TimeoutError as error:
            raise ProblemError(408, f"the body was not whole after {timeout_s:g} s") from error
    if len(body) > limit:
        raise ProblemError(413, f"the body has {len(body)} bytes: at most {limit}")
    return body


async def respond(
    send: Send, status: int, body: bytes, media: bytes = JSON, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send one whole answer."""
    lines = [(b"content-type", media), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def respond_problem(send: Send, problem: ProblemError) -> None:
    """Send a problem."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if problem.retry_s:
        headers = ((b"retry-after", str(max(1, round(problem.retry_s))).encode()),)
    if problem.status == 401:
        headers += ((b"www-authenticate", b"Bearer"),)
    if problem.status in (408, 413):
        # What is left of the body would be read as the next request.
        headers += ((b"connection", b"close"),)
    await respond(send, problem.status, problem.body(), MEDIA_TYPE, headers)


def key_of(scope: Scope) -> str:
    """The API key that a request carries; empty: none."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip(), "latin-1")
        if name == b"x-api-key":
            return str(value, "latin-1")
    return ""


async def _first(receive: Receive, timeout_s: float) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError as error:
        raise ProblemError(408, f"no byte of the body came within {timeout_s:g} s") from error
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    return message


async def _rest(receive: Receive, begun: bytes, limit: int) -> bytes:
    parts, size, more = [begun], len(begun), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise ProblemError(413, f"the body has more than {limit} bytes")
        more = message.get("more_body", False)
    return b"".join(parts)
