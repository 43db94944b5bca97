"""`everloop evaluate` on real topics, and on a file of the same records."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from everloop.cli import run
from everloop.evaluation.evaluate import Evaluation
from everloop.evaluation.pair import Rules, Span
from everloop.evaluation.policies import parse
from everloop.evaluation.topics import Source
from feedback.clock import SECOND
from feedback.codec import encode
from feedback.errors import UsageError
from feedback.events import Tick
from feedback.produce import OutcomeProducer
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS, create_topics
from tests.evaluation.build import START, Told, log

RAN = parse("epsilon_greedy(0.4)")
COUNT = 3_000
LAST = Tick(event_time=START + (COUNT + 4_000) * SECOND, sent_time=0)


def fill(kafka: KafkaSettings, requests: list[Told]) -> None:
    """Write the topics as gateway and event producers do."""
    create_topics(kafka)
    producer = KafkaProducer(**kafka.client(), acks="all")
    for each in requests:
        key = each.prediction.request_id.encode()
        producer.send(kafka.name(PREDICTIONS), key=key, value=encode(each.prediction))
    producer.send(kafka.name(PREDICTIONS), key=b"?", value=b"not an event")
    for topic in (PREDICTIONS, OUTCOMES):
        for partition in range(kafka.partitions):
            producer.send(kafka.name(topic), partition=partition, value=encode(LAST))
    producer.close()
    with OutcomeProducer(kafka, strict=True) as outcomes:
        for outcome in (each for request in requests for each in request.outcomes):
            fields = msgspec.structs.asdict(outcome)
            outcomes.send(**{name: fields[name] for name in fields if name not in ("v", "sent_time")})


@pytest.fixture
def requests() -> list[Told]:
    """What happened."""
    return list(log(RAN, COUNT))


def as_file(path: Path, requests: list[Told]) -> Path:
    """The same records, one a line, in no order."""
    events = [each.prediction for each in requests] + [outcome for each in requests for outcome in each.outcomes]
    path.write_bytes(b"\n".join([b"not an event", *map(encode, [*reversed(events), LAST])]) + b"\n")
    return path


def test_the_topics_and_a_file_of_their_records_give_one_answer(
    kafka: str, namespace: str, tmp_path: Path, requests: list[Told], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=3), requests)
    config = tmp_path / "everloop.toml"
    config.write_text(f'[kafka]\nbootstrap = "{kafka}"\nnamespace = "{namespace}"\npartitions = 3\n')
    common = ["--policy", "epsilon_greedy(0.1)", "--data", str(tmp_path / "data"), "--config", str(config), "--json"]
    assert run(["evaluate", *common]) == 0
    live = msgspec.json.decode(capsys.readouterr().out, type=Evaluation)
    assert run(["evaluate", *common, "--file", str(as_file(tmp_path / "log.jsonl", requests))]) == 0
    told = msgspec.json.decode(capsys.readouterr().out, type=Evaluation)
    assert live.left_out == told.left_out == {"malformed": 1}
    assert live.slates == told.slates == COUNT
    assert live.logged.value == sum(len(each.outcomes) for each in requests) / COUNT
    for one, other in zip(live.answers, told.answers, strict=True):
        # Readers fall into other halves for the reward model where they come in another order.
        assert one.value.value == pytest.approx(other.value.value, rel=1e-9 if "dr" not in one.estimator else 0.02)


def test_a_time_range_takes_its_slates_and_no_others(
    kafka: str, namespace: str, tmp_path: Path, requests: list[Told]
) -> None:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    fill(settings, requests[:200])
    span = Span(START + 50 * SECOND, START + 120 * SECOND)
    found = list(Source(span, Rules()).kafka(settings))
    assert {each.prediction.request_id for each in found} == {f"r{k}" for k in range(50, 120)}
    expected = {each.prediction.request_id: len(each.outcomes) for each in requests[50:120]}
    assert {each.prediction.request_id: sum(each.clicked) for each in found} == expected
    future = 4_000_000_000 * SECOND
    assert list(Source(Span(future, future + 1), Rules()).kafka(settings)) == []


def test_topics_that_do_not_exist_are_named(kafka: str, namespace: str) -> None:
    with pytest.raises(UsageError, match=f"topic {namespace}predictions does not exist"):
        list(Source(Span(), Rules()).kafka(KafkaSettings(bootstrap=kafka, namespace=namespace)))


def test_a_person_reads_a_table_and_what_is_not_computed(
    tmp_path: Path, requests: list[Told], capsys: pytest.CaptureFixture[str]
) -> None:
    path = as_file(tmp_path / "log.jsonl", requests)
    common = ["evaluate", "--data", str(tmp_path), "--file", str(path)]
    assert run([*common, "--policy", "softmax(1)"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("softmax(1) on 3,000 slates of 997 readers; logged under epsilon_greedy(0.4) 3,000\n")
    assert "not computed: pseudo_inverse: policy softmax(1)" in out
    assert "left out: 1 malformed" in out
    assert (
        run([*common, "--policy", "greedy", "--from", "2023-11-14T22:13:20", "--to", "2023-11-14T22:18:20+00:00"]) == 2
    )
    assert "at slot 1 of 300 slates" in capsys.readouterr().err
    assert run([*common, "--policy", "greedy", "--to", "yesterday"]) == 2
    assert "--to 'yesterday': a time in ISO 8601" in capsys.readouterr().err
