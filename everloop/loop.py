"""Which parts the loop has on one machine: their order, their addresses, and who starts them.

Whoever drives the loop (`up`, the demo, a bench) says `with running(session) as supervisor`.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from everloop.folders import exclusive
from everloop.runtime.kafka import KafkaNode
from everloop.runtime.parts import Event, Part, State
from everloop.runtime.ports import LOOPBACK, answers, free_port, free_ports, healthy
from everloop.runtime.redis import RedisNode
from everloop.runtime.supervise import Supervisor
from everloop.session import Session
from feedback.errors import UsageError

_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Only errors: at its start it tells at length which accelerators it did not find. Large tensors in large pages: to copy a table of
millions of rows is else five times slower, for the faults of its small ones, and training stands still for it."""

_NICE = {"trainer": 10, "streams": 5, "steer": 5}
"""Who stands back for whoever answers readers: far enough to halve the gateway's p50 on two cores, not so
far that a stranger's process stops learning."""

_OPEN_FILES = 65_536
"""Kafka keeps three files open per segment, each client a socket per broker."""


SERVING_FLAGS = {
    "file_system_poll_wait_seconds": "1",
    "num_load_threads": "1",
    "num_unload_threads": "1",
    "max_num_load_retries": "2",
    "load_retry_interval_micros": "1000000",
}
"""Flags of TensorFlow Serving that the loop needs: with the official defaults one failed load stops every other load for
five minutes."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """The servers that run already, as the command line names them; what is named is not started."""

    kafka: str = ""
    """HOST:PORT of a broker."""
    redis: str = ""
    """URL of a Redis server."""
    tf_serving: str = ""
    """HOST:PORT of a TensorFlow Serving's gRPC."""
    only: tuple[str, ...] = ()
    """The parts to start; empty: all."""


@dataclass
class Loop:
    """The parts, in the order of their start, and what they are told."""

    parts: list[Part] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    """Variables that tell every part where the others are."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Where a person or a client reaches what."""

    def names(self) -> tuple[str, ...]:
        """The parts so far."""
        return tuple(part.name for part in self.parts)

    def choose(self, only: tuple[str, ...]) -> None:
        """Leave out all parts but these.

        Raises:
            UsageError: there is no such part.
        """
        for name in only:
            if name not in self.names():
                raise UsageError(f"--only {name}: one of {', '.join(self.names())}")
        if only:
            self.parts = [
                replace(part, after=_among(part.after, only), outlived_by=_among(part.outlived_by, only))
                for part in self.parts
                if part.name in only
            ]


def assemble(session: Session, named: Named, *, say: Callable[[str, str], None] = lambda _part, _line: None) -> Loop:
    """Decide which parts are started here and on which ports; starts nothing."""
    loop = Loop(env={"EVERLOOP_DATA": str(session.folders.root)})
    if session.loaded.file is not None:
        loop.env["EVERLOOP_CONFIG"] = str(session.loaded.file.absolute())
    _add_kafka(loop, session, named, say)
    _add_redis(loop, session, named)
    loop.parts.append(
        Part(name="topics", argv=_command("topics"), env=dict(loop.env), after=_present(loop, "kafka"), once=True)
    )
    _add_model_server(loop, session, named)
    _add_python(loop, session, "streams", after=("topics", "redis"), live=partial(healthy, path="/health"))
    _add_python(loop, session, "trainer", after=("topics",), live=partial(healthy, path="/health"), tensorflow=True)
    _add_python(loop, session, "steer", after=("topics",), live=partial(healthy, path="/healthz"))
    _add_python(loop, session, "follower", after=("topics",), outlived_by=("model-server",))
    secured = bool(session.loaded.config.gateway.http.tls_cert)
    _add_python(
        loop,
        session,
        "gateway",
        after=("topics", "redis"),
        outlived_by=("model-server", "follower"),
        live=_listens if secured else partial(healthy, path="/v1/health/live"),
    )
    loop.choose(named.only)
    return loop


def _among(names: tuple[str, ...], only: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in only)


def _add_kafka(loop: Loop, session: Session, named: Named, say: Callable[[str, str], None]) -> None:
    bootstrap = named.kafka
    if not bootstrap and session.loaded.given("kafka.bootstrap"):
        bootstrap = session.loaded.config.kafka.bootstrap
    if not bootstrap:
        settings = session.loaded.config.runtime.kafka
        node = KafkaNode(session.folders.kafka, settings=settings, say=lambda line: say("kafka", line))
        bootstrap = node.bootstrap
        loop.parts.append(
            Part(
                name="kafka",
                argv=node.argv,
                prepare=node.prepare,
                ready=node.ready,
                ports={"kafka": node.port},
                ready_timeout_s=settings.ready_timeout_s,
                stop_timeout_s=settings.stop_timeout_s,
            )
        )
    loop.env["EVERLOOP_KAFKA__BOOTSTRAP"] = loop.addresses["kafka"] = bootstrap


def _add_redis(loop: Loop, session: Session, named: Named) -> None:
    url = named.redis
    if not url and session.loaded.given("redis.url"):
        url = str(session.loaded.config.redis.url)
    if not url:
        settings = session.loaded.config.runtime.redis
        node = RedisNode(session.folders.redis, settings=settings)
        url = loop.addresses["redis"] = node.url
        loop.parts.append(
            Part(
                name="redis",
                argv=node.argv,
                prepare=node.prepare,
                ready=node.ready,
                ports={"redis": node.port},
                ready_timeout_s=settings.ready_timeout_s,
            )
        )
    loop.env["EVERLOOP_REDIS__URL"] = url


def _add_model_server(loop: Loop, session: Session, named: Named) -> None:
    address = named.tf_serving
    if not address and session.loaded.given("addresses.model_server"):
        address = session.loaded.config.addresses.model_server
    if not address:
        grpc, rest = free_ports(2)
        address = f"{LOOPBACK}:{grpc}"
        configuration = session.folders.serving / "models.config"
        flags = {
            **SERVING_FLAGS,
            "host": LOOPBACK,
            "port": str(grpc),
            "rest_api_port": str(rest),
            "model_config_file": str(configuration),
        }
        loop.addresses["model rest"] = f"http://{LOOPBACK}:{rest}/v1/models"
        loop.parts.append(
            Part(
                name="model-server",
                argv=[
                    sys.executable,
                    "-m",
                    "serving.model_server",
                    *(f"--{name}={value}" for name, value in flags.items()),
                ],
                env={**loop.env, **_TENSORFLOW},
                prepare=lambda: _begin_without_models(configuration),
                ready=lambda: answers(LOOPBACK, grpc),
                ports={"grpc": grpc, "rest": rest},
            )
        )
    loop.env["EVERLOOP_ADDRESSES__MODEL_SERVER"] = loop.addresses["model grpc"] = address


def _listens(port: int) -> bool:
    return answers(LOOPBACK, port)


def _add_python(
    loop: Loop,
    session: Session,
    name: str,
    *,
    after: tuple[str, ...],
    outlived_by: tuple[str, ...] = (),
    live: Callable[[int], bool] = healthy,
    tensorflow: bool = False,
) -> None:
    """Add a part of ours that answers HTTP on a port of its own: a free one, unless it is configured."""
    key = f"{name}_port"
    port = getattr(session.loaded.config.addresses, key) if session.loaded.given(f"addresses.{key}") else 0
    port = port or free_port()
    # Every part is told every port, so that each may name another in what it reports.
    loop.env[f"EVERLOOP_ADDRESSES__{key.upper()}"] = str(port)
    loop.addresses[name] = f"http://{LOOPBACK}:{port}"
    loop.parts.append(
        Part(
            name=name,
            argv=_command(name),
            env={**loop.env, **(_TENSORFLOW if tensorflow else {})},
            after=_present(loop, *after),
            outlived_by=_present(loop, *outlived_by),
            ready=partial(live, port),
            ports={"http": port},
            nice=_NICE.get(name, 0) if session.loaded.config.runtime.readers_first else 0,
            ready_timeout_s=session.loaded.config.runtime.ready_timeout_s,
            stop_timeout_s=session.loaded.config.runtime.stop_timeout_s,
        )
    )


def _begin_without_models(configuration: Path) -> None:
    """Let the server begin with no model: which ones it has is the follower's to say."""
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("model_config_list {}\n", encoding="utf-8")


def _present(loop: Loop, *names: str) -> tuple[str, ...]:
    """Those of these parts that are started here: what runs elsewhere is not waited for."""
    return tuple(name for name in names if name in loop.names())


def _command(name: str) -> list[str]:
    """Return the command line of a part of ours: all else it is told by its environment."""
    return [sys.executable, "-m", "everloop.run", name]


@contextmanager
def running(
    session: Session,
    named: Named | None = None,
    *,
    tell: Callable[[Event], None] = lambda _: None,
) -> Iterator[Supervisor]:
    """Start the loop in the session's data folder; yields at once, stops everything at the end.

    Raises:
        UsageError: the loop runs in this data folder already.
    """
    with exclusive(session.folders):
        _raise_open_files()
        loop = assemble(session, named or Named(), say=lambda part, line: tell(Event(part, State.STARTING, line)))
        settings = session.loaded.config.runtime
        supervisor = Supervisor(
            loop.parts, folders=session.folders, settings=settings, tell=tell, addresses=loop.addresses
        )
        supervisor.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def logs(session: Session, part: str) -> Path:
    """Return the path of a part's log."""
    return session.folders.logs / f"{part}.log"
