"""The Kafka and the Redis that the runtime starts."""

from __future__ import annotations

import hashlib
import threading
import uuid
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from redis import Redis

from everloop.runtime import jars
from everloop.runtime.jars import Jar
from everloop.runtime.kafka import KafkaNode, cluster_id
from everloop.runtime.redis import RedisNode
from everloop.runtime.settings import KafkaNodeSettings, RedisNodeSettings
from feedback.errors import CorruptError, UnavailableError


def create(bootstrap: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    admin.close()


def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send(topic, value).get(timeout=30)
    producer.close()


def read(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    values: list[bytes] = []
    while len(values) < end:
        for records in consumer.poll(timeout_ms=500).values():
            values += [record.value for record in records]
    consumer.close()
    return values


def test_what_was_confirmed_is_there_after_a_kill_and_a_restart_on_another_port(tmp_path: Path) -> None:
    first = KafkaNode(tmp_path)
    create(first.start(), "kept")
    send(first.bootstrap, "kept", b"before")
    first.kill()
    with KafkaNode(tmp_path) as second:
        send(second.bootstrap, "kept", b"after")
        assert read(second.bootstrap, "kept") == [b"before", b"after"]


def test_a_cluster_id_is_never_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\xf8" + bytes(15), b"\xfb" + bytes(15), b"\xfc" + bytes(15)])
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=next(drawn)))
    assert cluster_id() == "_" + "A" * 21


def test_topics_are_never_created_by_use(kafka: str, namespace: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, max_block_ms=2000)
    with pytest.raises(Exception, match=r"(?i)timed? ?out|unknown"):
        producer.send(f"{namespace}nobody-made-me", b"x").get(timeout=5)
    producer.close()


def test_the_time_of_a_record_is_when_it_was_appended(kafka: str, namespace: str) -> None:
    topic = f"{namespace}stamps"
    create(kafka, topic)
    producer = KafkaProducer(bootstrap_servers=kafka)
    metadata = producer.send(topic, b"x", timestamp_ms=1).get(timeout=30)
    producer.close()
    assert metadata.timestamp > 1_600_000_000_000


def test_a_node_that_can_not_start_says_why(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, settings=KafkaNodeSettings(heap_mib=1))
    with pytest.raises(UnavailableError, match=r"(?i)heap|memory"):
        node.start()


def test_redis_keeps_its_data_over_a_clean_stop(tmp_path: Path) -> None:
    with RedisNode(tmp_path, settings=RedisNodeSettings(appendonly=True)) as node, Redis.from_url(node.url) as client:
        client.set("name", "value")
    with RedisNode(tmp_path, settings=RedisNodeSettings(appendonly=True)) as node, Redis.from_url(node.url) as client:
        assert client.get("name") == b"value"


def test_the_shared_redis_answers(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.ping()


class Repository:
    """A source of jars that counts how often it is asked, and may lie."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents, self.asked = contents, 0

    def jars(self) -> list[Jar]:
        return [Jar("g", name, "1", "", hashlib.sha256(body).hexdigest()) for name, body in self.contents.items()]

    def fetch(self, jar: Jar, scratch: Path) -> Path:
        self.asked += 1
        path = scratch / jar.filename
        path.write_bytes(self.contents[jar.artifact])
        return path


def test_jars_are_fetched_once_though_two_ask_at_a_time(tmp_path: Path) -> None:
    repository = Repository({"a": b"one", "b": b"two"})
    wanted = repository.jars()

    def ensure() -> None:
        jars.ensure(wanted, folder=tmp_path, fetch=repository.fetch)

    threads = [threading.Thread(target=ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert repository.asked == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "a-1.jar", "b-1.jar"]


def test_a_corrupt_jar_is_fetched_again(tmp_path: Path) -> None:
    repository = Repository({"a": b"one"})
    [path] = jars.ensure(repository.jars(), folder=tmp_path, fetch=repository.fetch)
    path.write_bytes(b"flipped")
    jars.ensure(repository.jars(), folder=tmp_path, fetch=repository.fetch)
    assert path.read_bytes() == b"one"


def test_a_jar_with_other_bytes_than_the_lock_says_is_never_used(tmp_path: Path) -> None:
    repository = Repository({"a": b"one"})
    wanted = repository.jars()
    repository.contents["a"] = b"evil"
    with pytest.raises(CorruptError, match=r"a-1\.jar"):
        jars.ensure(wanted, folder=tmp_path, fetch=repository.fetch)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_lock_pins_every_jar_and_names_no_host() -> None:
    assert all(len(jar.sha256) == 64 for jar in jars.locked())
    assert {"kafka_2.13", "kafka-clients"} <= {jar.artifact for jar in jars.locked()}
    assert "://" not in jars.LOCK.read_text() + jars.SPEC.read_text()
