"""The REST side: paths, methods, transport.

uvicorn with httptools under a bare ASGI application: it keeps connections open without limit, takes bodies of any size,
and leaves paths and methods as they came. The path, the query and all, is matched by the official server's two patterns.
Where HTTP behaviour cannot be the same: docs/model-server.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvicorn
from tensorflow_serving.apis import classification_pb2, get_model_status_pb2, regression_pb2

from serving.model_server import jsonwrite
from serving.model_server.bundle import DEFAULT_SIGNATURE
from serving.model_server.dispatch import Dispatch
from serving.model_server.document import parse
from serving.model_server.faults import HTTP_STATUS, Code, ServingError, invalid
from serving.model_server.jsonexample import fill_input
from serving.model_server.jsontensor import read_request, signature_name
from serving.model_server.predict import run_signature
from serving.model_server.routes import API, Target, target
from serving.model_server.service import Entered, Service, code_of

METRICS_PATH = "/monitoring/prometheus/metrics"
MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""A gzip body that grows beyond this is treated as no body."""

_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_NOT_IMPLEMENTED = (
    b"<HTML><HEAD>\n<TITLE>501 Not Implemented</TITLE>\n</HEAD><BODY>\n<H1>Not Implemented</H1>\n</BODY></HTML>\n"
)
_CORS = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"POST, GET"),
    (b"Access-Control-Allow-Headers", b"Content-Type"),
)
_JSON, _HTML, _PLAIN = b"application/json", b"text/html", b"text/plain"

Headers = tuple[tuple[bytes, bytes], ...]
Answer = tuple[int, Headers, bytes]


@dataclass(frozen=True, kw_only=True)
class RestSettings:
    """How the REST port works."""

    host: str = ""
    """Address to listen on; empty = all, IPv6 and IPv4."""
    port: int = 0
    """TCP port; 0 = a free one."""
    threads: int = 8
    """Threads for requests."""
    timeout_s: float = 30.0
    """Seconds after which a request is answered with 504."""
    cors: bool = False
    """Whether OPTIONS answers carry CORS headers."""
    metrics_path: str = ""
    """Where Prometheus reads; empty = nowhere."""


class Rest:
    """The ASGI application."""

    def __init__(self, service: Service, settings: RestSettings) -> None:
        self._service, self._settings = service, settings
        self._dispatch = Dispatch(max(settings.threads, 1), inline=False)

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        status, headers, answer = await self.answer(scope["method"], _path(scope), dict(scope["headers"]), body)
        if scope["method"] != "HEAD":
            headers = (*headers, (b"Content-Length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": answer})

    async def answer(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
        """The answer to a request, before it is put on the wire."""
        if method not in _METHODS:
            return 501, _type(_HTML), _NOT_IMPLEMENTED
        where = path.partition("?")[0]
        if self._settings.metrics_path and where == self._settings.metrics_path:
            return self._metrics(path)
        if not API.fullmatch(path):
            return 404, _type(_HTML), _NOT_FOUND
        if method == "OPTIONS":
            if b"origin" not in headers:
                return 400, (), b""
            return 200, _CORS if self._settings.cors else (), b""
        if headers.get(b"content-encoding", b"").lower() == b"gzip":
            body = gunzip(body)
        return await self._api(method, path, body)

    def _metrics(self, path: str) -> Answer:
        if path != self._settings.metrics_path:
            text = f"Unexpected path: {path}. Should be {self._settings.metrics_path}"
            return 400, _type(_PLAIN), text.encode()
        return 200, _type(_PLAIN), self._service.metrics.text().encode()

    async def _api(self, method: str, path: str, body: bytes) -> Answer:
        began, name, action = time.perf_counter(), "", ""
        code, text = Code.OK, b""
        try:
            found = target(method, path)
            name, action = found.spec.name, found.action
            work = self._dispatch(None, lambda: self._work(found, body))
            text = await asyncio.wait_for(work, self._settings.timeout_s)
        except TimeoutError:
            code, text = Code.DEADLINE_EXCEEDED, jsonwrite.error("Timed out waiting for notification")
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            code, message = code_of(error)
            text = jsonwrite.error(message)
        metrics = self._service.metrics
        if name:
            metrics.count_request(name, code)
        if code is Code.OK:
            metrics.request_latency.observe((time.perf_counter() - began) * 1e6, name, action, "REST")
        return HTTP_STATUS[code], _type(_JSON), text

    def _work(self, found: Target, body: bytes) -> bytes:
        match found.action:
            case "predict":
                return self._predict(found.spec, body)
            case "classify":
                request = classification_pb2.ClassificationRequest()
                self._read_examples(request, found.spec, body)
                return jsonwrite.classifications(self._service.classify(request).result)
            case "regress":
                request = regression_pb2.RegressionRequest()
                self._read_examples(request, found.spec, body)
                return jsonwrite.regressions(self._service.regress(request).result)
            case "metadata":
                with Entered(self._service.core.find(found.spec)) as servable:
                    return jsonwrite.metadata(servable.bundle, model=found.spec.name, version=servable.version)
            case _:
                asked = get_model_status_pb2.GetModelStatusRequest(model_spec=found.spec)
                return jsonwrite.status(self._service.model_status(asked))

    def _predict(self, spec: Any, body: bytes) -> bytes:
        document = parse(body)
        wanted = signature_name(document)
        with Entered(self._service.core.find(spec)) as servable:
            signature = servable.bundle.signatures.get(wanted or DEFAULT_SIGNATURE)
            if signature is None:
                raise invalid(f'Serving signature name: "{wanted or DEFAULT_SIGNATURE}" not found in signature def')
            types = {alias: signature.definition.inputs[alias].dtype for alias in signature.inputs}
            arrays, layout = read_request(document, types, wanted)
            fetched = run_signature(
                self._service.timed(servable, "Predict"), signature, [arrays[alias] for alias in signature.inputs]
            )
        return jsonwrite.predictions(fetched, layout)

    def _read_examples(self, request: Any, spec: Any, body: bytes) -> None:
        document = parse(body)
        request.model_spec.CopyFrom(spec)
        request.model_spec.signature_name = signature_name(document)
        fill_input(document, request.input)


def gunzip(body: bytes) -> bytes:
    """The body inflated; nothing where it is damaged or grows too large, as the official server has it."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED_BYTES + 1)
    except zlib.error:
        return b""
    return inflated if inflater.eof and len(inflated) <= MAX_INFLATED_BYTES else b""


def _type(kind: bytes) -> Headers:
    return ((b"Content-Type", kind),)


def _path(scope: Any) -> str:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("utf-8", "replace")


async def _body(receive: Callable[[], Awaitable[Any]]) -> bytes:
    parts = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            break
        parts.append(event.get("body", b""))
        if not event.get("more_body"):
            break
    return b"".join(parts)


@dataclass(frozen=True)
class Running:
    """An open REST port."""

    port: int
    server: Any
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Close it, open connections too."""
        self.server.should_exit = self.server.force_exit = True
        await self.task


class _Server(uvicorn.Server):
    """uvicorn without hands on the process's signals: they belong to main."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: all interfaces, IPv6 and IPv4 in one, unless a host is named."""
    if host:
        return socket.create_server((host, port), backlog=1024)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("0.0.0.0", port), backlog=1024)


async def start(service: Service, settings: RestSettings) -> Running:
    """Open the REST port on the running loop.

    Raises:
        OSError: it cannot be bound.
    """
    bound = listen(settings.host, settings.port)
    server = _Server(
        uvicorn.Config(
            Rest(service, settings),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=10**9,
            h11_max_incomplete_event_size=None,
        )
    )
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]))
    while not server.started:
        if task.done():
            task.result()
            raise OSError(f"the REST server did not start on port {settings.port}")
        await asyncio.sleep(0.005)
    return Running(bound.getsockname()[1], server, task)


__all__ = ["METRICS_PATH", "Rest", "RestSettings", "Running", "ServingError", "gunzip", "listen", "start", "target"]
