"""Which broker a command speaks to: the configured one, or that of the loop that is up in the data folder."""

from __future__ import annotations

from dataclasses import replace

from everloop.folders import held
from everloop.runtime.ports import answers
from everloop.runtime.supervise import read
from everloop.session import Session
from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings


def reach(session: Session) -> KafkaSettings:
    """Return how to reach the broker that this session means, after a look whether it answers.

    Raises:
        UnavailableError: it does not. A client would ask again and again for half a minute; a person wants to know at once.
    """
    loaded = session.loaded
    kafka = loaded.config.kafka
    if not loaded.given("kafka.bootstrap") and held(session.folders):
        address = read(session.folders).get("addresses", {}).get("kafka")
        kafka = replace(kafka, bootstrap=address) if address else kafka
    if not any(answers(*_address(each)) for each in kafka.bootstrap.split(",")):
        raise UnavailableError(f"kafka: no broker answers at {kafka.bootstrap}")
    return kafka


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0
