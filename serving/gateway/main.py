"""The gateway's process: until SIGTERM or SIGINT, then a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import uvicorn
import uvloop

from feedback import turns
from feedback.errors import EverloopError
from feedback.features import Feature
from feedback.settings import KafkaSettings, RedisSettings
from serving.gateway.door import Doorway
from serving.gateway.gateway import Gateway
from serving.gateway.logs import configure
from serving.gateway.settings import GatewaySettings, HttpSettings

_LOG: Final = logging.getLogger("everloop.gateway")
_OTHER_FILES: Final = 64
"""Files and connections that are not clients': Kafka, Redis, the model server, the spool."""


def run(
    *,
    kafka: KafkaSettings,
    redis: RedisSettings,
    features: tuple[Feature, ...],
    settings: GatewaySettings,
    data: Path,
    model_server: str,
    port: int = 0,
) -> int:
    """Serve until SIGTERM or SIGINT; answer the exit status. `model_server`: HOST:PORT of its gRPC.

    Prints one JSON line with the ports when it serves. A port that is taken or a setting that is wrong: status 2.
    """
    configure()
    try:
        listening = listen(settings.http, port)
        turns.answer()
        uvloop.run(_serve(listening, kafka, redis, features, settings, data, model_server))
    except (EverloopError, OSError) as error:
        _LOG.error("%s", error)
        return 2
    return 0


def listen(settings: HttpSettings, port: int) -> socket.socket:
    """Bind the HTTP port, so that it is known before anything starts."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((settings.host, port))
    return listening


class Server(uvicorn.Server):
    """uvicorn's server, stopped by us: its own handlers would send the signal again once it has stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def _serve(
    listening: socket.socket,
    kafka: KafkaSettings,
    redis: RedisSettings,
    features: tuple[Feature, ...],
    settings: GatewaySettings,
    data: Path,
    model_server: str,
) -> None:
    gateway = Gateway(
        kafka=kafka, redis=redis, features=features, settings=settings, data=data, model_server=model_server
    )
    server = Server(_config(gateway, settings.http))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    await gateway.start()
    _spare_collections()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    ready = {"event": "ready", "part": "gateway", "http_port": listening.getsockname()[1]}
    if gateway.grpc_port:
        ready["grpc_port"] = gateway.grpc_port
    print(json.dumps(ready), flush=True)
    await serving
    await gateway.stop()


def _config(gateway: Gateway, settings: HttpSettings) -> uvicorn.Config:
    return uvicorn.Config(
        gateway.app,
        loop="none",
        # uvicorn calls it as it would call a class.
        http=cast(
            "type[asyncio.Protocol]", Doorway(settings, connections=min(settings.max_connections, _more_files()))
        ),
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=settings.backlog,
        timeout_keep_alive=round(settings.keep_alive_s),
        timeout_graceful_shutdown=5,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
    )


def _spare_collections() -> None:
    """Collect cycles less often: a request makes many containers and hardly a cycle, and what is loaded by now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _more_files() -> int:
    """Allow as many open connections as the system lets this process have; answer how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, hard - _OTHER_FILES) if hard != resource.RLIM_INFINITY else sys.maxsize
