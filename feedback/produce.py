"""The client with which an event producer in another process sends outcomes to Kafka.

    with OutcomeProducer("broker:9092") as producer:
        producer.send(request_id=slate, item_id="n123", kind="click")

`send` does not wait: it checks the event, buffers it, and answers a future that tells when Kafka has confirmed it. A broker
that is away, also at the start, is waited for in the background. What cannot be sent (an invalid event, a full buffer) never
raises out of `send` unless `strict` is set: the future carries the error, `on_error` is told, and `failed` counts it, so that a
page that reports clicks does not break over one of them.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from feedback.clock import now_us
from feedback.codec import encode, translate
from feedback.errors import BufferFullError, EverloopError, UnavailableError, UsageError
from feedback.events import Outcome
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES

Delivery = Future[Outcome]
"""Done when Kafka has confirmed the outcome; `result(timeout)` answers it, or raises what went wrong."""

OnError = Callable[[dict[str, Any], EverloopError], object]
"""Told of every outcome that did not arrive: its fields, and why. Called from the producer's own thread or `send`'s."""

_LOG: Final = logging.getLogger("everloop.produce")


class _Waiting(NamedTuple):
    event: Outcome
    delivery: Delivery
    expires: float


class OutcomeProducer:
    """Sends outcomes; usable from any number of threads. A context manager: leaving it flushes."""

    def __init__(
        self,
        kafka: KafkaSettings | str,
        *,
        max_buffered: int = 10_000,
        delivery_timeout_s: float = 120.0,
        strict: bool = False,
        on_error: OnError | None = None,
    ) -> None:
        """Start a producer; the broker need not be there yet.

        `kafka`: how to reach it, or just HOST:PORT. `max_buffered`: outcomes that may wait for confirmation. `strict`: let `send`
        raise what else the future would carry.
        """
        self._kafka = KafkaSettings(bootstrap=kafka) if isinstance(kafka, str) else kafka
        self._topic = self._kafka.name(OUTCOMES)
        self._max, self._timeout_s, self._strict, self._on_error = max_buffered, delivery_timeout_s, strict, on_error
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pending = 0
        self._stopping = threading.Event()
        self.confirmed = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, name="outcomes", daemon=True)
        self._thread.start()

    def send(
        self,
        *,
        request_id: str,
        item_id: str,
        kind: str,
        value: float = 1.0,
        event_time: int | None = None,
        event_id: str | None = None,
    ) -> Delivery:
        """Send one outcome. `event_time`: when it happened, µs since the epoch; default: now. `event_id`: default a new one.

        Raises (only with `strict`):
            DecodeError: a field is not as the contract says.
            BufferFullError: `max_buffered` outcomes wait already.
        Raises:
            UsageError: the producer is closed.
        """
        if self._stopping.is_set():
            raise UsageError("this OutcomeProducer is closed: make another")
        now = now_us()
        fields = {
            "type": "outcome",
            "event_id": event_id or uuid.uuid4().hex,
            "request_id": request_id,
            "item_id": item_id,
            "kind": kind,
            "value": value,
            "event_time": now if event_time is None else event_time,
            "sent_time": now,
        }
        delivery: Delivery = Future()
        try:
            event = msgspec.convert(fields, Outcome)
            self._reserve()
        except msgspec.ValidationError as error:
            self._refuse(fields, translate(error), delivery)
        except BufferFullError as error:
            self._refuse(fields, error, delivery)
        else:
            self._queue.put(_Waiting(event, delivery, time.monotonic() + self._timeout_s))
        return delivery

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until nothing waits for confirmation any more.

        Raises:
            UnavailableError: something still does after `timeout_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._pending == 0, timeout_s):
                raise UnavailableError(
                    f"kafka at {self._kafka.bootstrap}: {self._pending} outcomes are not confirmed after {timeout_s:g} s"
                )

    def close(self, timeout_s: float = 30.0) -> None:
        """Flush and stop. What is not confirmed by then fails. Raises UnavailableError as `flush` does."""
        try:
            self.flush(timeout_s)
        finally:
            self._stopping.set()
            self._queue.put(None)
            self._thread.join(10.0)

    def __enter__(self) -> OutcomeProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UnavailableError:
            # Whatever made the block fail says more than this.
            if kind is None:
                raise

    def _reserve(self) -> None:
        with self._changed:
            if self._pending >= self._max:
                raise BufferFullError(
                    f"{self._pending} outcomes wait for kafka at {self._kafka.bootstrap}: {self._max} may"
                )
            self._pending += 1

    def _refuse(self, fields: dict[str, Any], error: EverloopError, delivery: Delivery) -> None:
        self._failed(fields, error)
        if self._strict:
            raise error
        delivery.set_exception(error)

    def _failed(self, fields: dict[str, Any], error: EverloopError) -> None:
        with self._changed:
            self.failed += 1
        _LOG.warning("outcome %s of request %s: %s", fields.get("event_id"), fields.get("request_id"), error)
        if self._on_error:
            self._on_error(fields, error)

    def _settle(self, waiting: _Waiting, error: EverloopError | None = None) -> None:
        if error:
            self._failed(msgspec.to_builtins(waiting.event), error)
            waiting.delivery.set_exception(error)
        else:
            waiting.delivery.set_result(waiting.event)
        with self._changed:
            self.confirmed += error is None
            self._pending -= 1
            self._changed.notify_all()

    def _run(self) -> None:
        producer = None
        while (waiting := self._queue.get()) is not None:
            producer = producer or self._connect(waiting)
            if producer is None:
                self._settle(waiting, self._unavailable("no broker answers"))
            else:
                self._hand_over(producer, waiting)
        if producer:
            producer.close(timeout=1.0)
        while not self._queue.empty():
            if left := self._queue.get():
                self._settle(left, self._unavailable("the producer was closed before a broker answered"))

    def _connect(self, waiting: _Waiting) -> Any:
        """A connected producer, or None where none could be made before the outcome that waits has expired."""
        while not self._stopping.is_set() and time.monotonic() < waiting.expires:
            try:
                # A constructor that finds no broker leaves its sockets open: look first whether anybody listens.
                _knock(self._kafka.bootstrap)
                return KafkaProducer(
                    **self._kafka.client(),
                    client_id="everloop-outcomes",
                    enable_idempotence=True,
                    linger_ms=5,
                    request_timeout_ms=10_000,
                    delivery_timeout_ms=max(15_000, round(self._timeout_s * 1_000)),
                    max_block_ms=5_000,
                    bootstrap_timeout_ms=2_000,
                    allow_auto_create_topics=False,
                )
            except (KafkaError, OSError, ValueError) as error:
                _LOG.warning("kafka at %s: %r; trying again", self._kafka.bootstrap, error)
                self._stopping.wait(0.5)
        return None

    def _hand_over(self, producer: Any, waiting: _Waiting) -> None:
        event = waiting.event
        try:
            sending = producer.send(self._topic, key=event.request_id.encode(), value=encode(event))
        except (KafkaError, OSError) as error:
            self._settle(waiting, self._unavailable(repr(error)))
            return
        sending.add_callback(lambda _: self._settle(waiting))
        sending.add_errback(lambda error: self._settle(waiting, self._unavailable(repr(error))))

    def _unavailable(self, why: str) -> UnavailableError:
        return UnavailableError(f"kafka at {self._kafka.bootstrap}, topic {self._topic}: {why}")


def _knock(bootstrap: str) -> None:
    """Connect to the first bootstrap server that listens, and hang up. Raises OSError where none does."""
    for place, server in enumerate(servers := bootstrap.split(",")):
        host, _, port = server.rpartition(":") if ":" in server else (server, "", "9092")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            return
        except (OSError, ValueError):
            if place + 1 == len(servers):
                raise
