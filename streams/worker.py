"""The worker: a Faust app that hosts the services, and its process.

Faust runs what it is good at: the worker's life, its signals, its services and their order of start and stop. Events never pass through
Faust's streams or tables: measured, those take 10,000 events/s at most, and lose some when a worker is killed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import faust
import uvloop
from faust.app.base import BootStrategy
from mode import Service

from feedback.settings import KafkaSettings, RedisSettings
from streams import log
from streams.engine import Engine
from streams.features import Features
from streams.metrics import serve
from streams.settings import StreamsSettings


class Boot(BootStrategy):
    """No agents, no tables, no web of Faust's own."""

    enable_kafka = False
    enable_web = False


class App(faust.App):
    """The app of one worker."""

    BootStrategy = Boot


class Process(faust.Worker):
    """Faust's worker, which leaves logging and the title of the process alone."""

    def _setup_logging(self) -> None:
        """Logging is configured before."""

    async def maybe_start_blockdetection(self) -> None:
        """A round may take long; that is no deadlock."""


def application(
    *,
    kafka: KafkaSettings,
    redis: RedisSettings,
    settings: StreamsSettings,
    data: Path,
    worker: str,
    http_port: int,
    http_host: str = "127.0.0.1",
) -> App:
    """Return the Faust app with its services; nothing is started."""
    folder = data / "join"
    folder.mkdir(parents=True, exist_ok=True)
    app = App(
        kafka.name("streams"),
        broker=f"kafka://{kafka.bootstrap}",
        datadir=str(folder / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        worker_redirect_stdouts=False,
    )

    engine = Engine(
        kafka=kafka,
        settings=settings,
        worker=worker,
        folder=folder / "slates" / f"{kafka.namespace}{worker}",
        fail=fail,
    )

    @app.service
    class Join(Service):
        """The join."""

        async def on_start(self) -> None:
            self.port, self._web = await serve(engine, http_port, http_host)
            self.add_future(_guard(self._main()))
            self.add_future(self._say_ready())

        async def _main(self) -> None:
            await engine.start()
            await engine.run()

        async def _say_ready(self) -> None:
            await engine.ready.wait()
            line = {"event": "ready", "http": self.port, "partitions": sorted(engine.parts)}
            print(json.dumps(line), flush=True)

        async def on_stop(self) -> None:
            await engine.stop()
            await self._web.cleanup()

    if settings.state.enabled:
        features = Features(
            kafka=kafka, redis_settings=redis, settings=settings.state, future_s=settings.join.future_s, worker=worker
        )

        @app.service
        class RealTime(Service):
            """The real-time features: begun once the join works, so that they take nothing from its recovery."""

            async def on_start(self) -> None:
                self.add_future(_guard(self._main()))

            async def _main(self) -> None:
                await engine.ready.wait()
                await features.start()
                await features.run()

            async def on_stop(self) -> None:
                await features.stop()

    return app


def fail(error: BaseException) -> None:
    """End the process at once, as a kill would: memory may be ahead of Kafka, so nothing more may be committed from it."""
    log.logger.critical("the worker cannot go on", exc_info=error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


async def _guard(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - the outermost loop of the process
        fail(error)


def run(
    *,
    kafka: KafkaSettings,
    redis: RedisSettings,
    settings: StreamsSettings,
    data: Path,
    worker: str,
    http_port: int = 0,
    http_host: str = "127.0.0.1",
) -> int:
    """Run a worker until SIGTERM or SIGINT; `worker` is its stable name. Returns the exit status.

    Prints one JSON line when every partition that it was given is ready.
    """
    log.configure()
    # What is held for long is not tracked by the collector, or has no circles: it should not walk a million slates.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = application(
        kafka=kafka,
        redis=redis,
        settings=settings,
        data=data,
        worker=worker,
        http_port=http_port,
        http_host=http_host,
    )
    process = Process(app, loop=loop, quiet=True, redirect_stdouts=False)
    process.spinner = None
    try:
        process.execute_from_commandline()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def main(argv: list[str]) -> int:
    """Run a worker against a broker and a Redis named on the command line, with the default settings or those of a JSON file."""
    import msgspec

    bootstrap, redis_url, namespace, partitions, data, worker, *rest = argv
    settings = msgspec.json.decode(Path(rest[0]).read_bytes(), type=StreamsSettings) if rest else StreamsSettings()
    from feedback.settings import Secret

    return run(
        kafka=KafkaSettings(bootstrap=bootstrap, namespace=namespace, partitions=int(partitions)),
        redis=RedisSettings(url=Secret(redis_url), namespace=namespace),
        settings=settings,
        data=Path(data),
        worker=worker,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
