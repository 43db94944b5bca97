"""Orders, the watcher and lineage through a real Kafka."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feedback.clock import SECOND, now_us
from feedback.deltas import DeltaHeader, Step
from feedback.errors import UsageError
from feedback.events import OBSERVED, Ledger, Outcome, Prediction, Progress, Sample
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, DELTAS, MODELS, OUTCOMES, PREDICTIONS, REPLICAS, SAMPLES
from feedback.versions import MANIFEST, Canary, Control, Manifest, ModelEvent, Replica


class Loop:
    """Writes what the parts of the loop would write."""

    def __init__(self, kafka: KafkaSettings) -> None:
        from kafka import KafkaProducer

        self.kafka, self.producer = kafka, KafkaProducer(**kafka.client())

    def send(self, topic: str, key: bytes, value: Any, *, partition: int | None = None, headers: Any = ()) -> int:
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        sent = self.producer.send(
            self.kafka.name(topic), key=key, value=data, partition=partition, headers=list(headers)
        )
        return int(sent.get(timeout=30).offset)

    def event(self, version: int, event: Any, **fields: Any) -> None:
        record = ModelEvent(model="news", line="news-a", version=version, event=event, time=now_us(), **fields)
        self.send(MODELS, record.key, record)

    def answer(self, request: str, **fields: Any) -> None:
        record = Prediction(
            request_id=request,
            user_id="u",
            event_time=1,
            sent_time=now_us(),
            items=["a", "b"],
            scores=[0.5, 0.4],
            **fields,
        )
        self.send(PREDICTIONS, request.encode(), record)

    def replica(self, name: str, **fields: Any) -> None:
        record = Replica(model="news", replica=name, time=now_us(), **fields)
        self.send(REPLICAS, record.key, record)


@pytest.fixture
def topics(kafka: str, namespace: str) -> KafkaSettings:
    from feedback.topics import create_topics

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=4)
    create_topics(settings)
    return settings


@pytest.fixture
def loop(topics: KafkaSettings) -> Iterator[Loop]:
    loop = Loop(topics)
    yield loop
    loop.producer.close()


def test_an_order_is_written_and_waited_for(topics: KafkaSettings, loop: Loop) -> None:
    from everloop.steer import control, orders
    from everloop.steer.topics import control as in_force

    loop.event(3, "gated", uri="u", epoch=1)
    loop.replica("a", live=3, loaded={3: 1})
    loop.replica("b", live=2, loaded={2: 1}, problem="disk full")
    written = control.write(topics, "news", lambda c, known: orders.pin(c, known, 3), by="test", reason="why not")
    assert in_force(topics, "news") == written
    left = control.wait(topics, "news", control.until_live(3), timeout_s=0.1, silent_s=30)
    assert left == ["replica b has version 2 live (disk full)"]
    loop.replica("b", live=3, loaded={3: 1})
    assert control.wait(topics, "news", control.until_live(3), timeout_s=10, silent_s=30) == []
    with pytest.raises(UsageError):
        control.write(topics, "news", lambda c, _: orders.resume(c, "skip"), by="test", reason="")
    assert in_force(topics, "news") == written, "a refused order changes nothing"


def watching(topics: KafkaSettings, **settings: Any) -> Any:
    from everloop.steer.watch import Watcher

    watcher = Watcher(topics, settings["settings"], model="news")
    thread = threading.Thread(target=watcher.run)
    thread.start()
    return watcher, thread


def page(watcher: Any, path: str) -> str:
    from everloop.steer.main import serve

    http = serve(watcher, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http.server_port}{path}", timeout=10) as answer:
            return str(answer.read().decode())
    finally:
        http.shutdown()
        http.server_close()


def eventually(probe: Any, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_version_under_which_requests_fail_is_rolled_back_by_itself(topics: KafkaSettings, loop: Loop) -> None:
    from everloop.steer.settings import GuardSettings, SteerSettings
    from everloop.steer.topics import control, events

    for version in (1, 2):
        loop.event(version, "gated", uri="u", epoch=1)
    watcher, thread = watching(topics, settings=SteerSettings(guard=GuardSettings(requests=10)))
    try:
        eventually(lambda: watcher.status["leading"])
        loop.event(1, "live", by="follower/a")
        for number in range(20):
            loop.answer(f"good{number}", version=1)
        loop.event(2, "live", by="follower/a")
        eventually(lambda: watcher._live == 2)
        # What something else chose says nothing of version 2.
        for number in range(40):
            loop.answer(f"front{number}", policy=OBSERVED, fallback=OBSERVED)
        loop.answer("first", version=2)
        eventually(lambda: watcher._guard._since)
        assert list(watcher._guard._since) == [False]
        for number in range(20):
            loop.answer(f"bad{number}", fallback="model_error")
        eventually(lambda: control(topics, "news").paused)
        eventually(lambda: "everloop_steer_rollbacks_total 1.0" in page(watcher, "/metrics"))
        assert "everloop_steer_leading 1.0" in page(watcher, "/metrics")
        assert json.loads(page(watcher, "/status"))["leading"] is True
    finally:
        watcher.stop()
        thread.join()
    found = control(topics, "news")
    assert (found.version, found.epoch, found.by) == (1, 2, "watcher")
    assert "since version 2 went live" in found.reason
    assert any(event.event == "rolled_back" and event.version == 1 for event in events(topics, "news"))


@pytest.mark.parametrize(("clicks_with", "said"), [(1, "dropped"), (2, "promoted")])
def test_a_canary_is_dropped_or_promoted_by_itself_and_counted(
    topics: KafkaSettings, loop: Loop, clicks_with: int, said: str
) -> None:
    from everloop.steer.settings import CanarySettings, SteerSettings
    from everloop.steer.topics import control, events

    for version in (1, 2):
        loop.event(version, "gated", uri="u", epoch=1)
    settings = SteerSettings(canary=CanarySettings(cap=1, clicks=1, grid=128, low=0.01, look_s=0.0))
    watcher, thread = watching(topics, settings=settings)
    try:
        eventually(lambda: watcher.status["leading"])
        canary = Canary(version=2, share=0.5, started=SECOND)
        loop.send(CONTROL, b"news", Control(model="news", version=1, canary=canary, time=now_us()))
        eventually(lambda: watcher._trial is not None)
        # One of the two brings clicks, the other none.
        for number in range(1200):
            version, clicked = 1 + number % 2, 1 + number % 2 == clicks_with and number % 3 == 0
            for kind in (0, 2) if clicked else (0,):
                sample = Sample(
                    sample_id="s", request_id=f"r{number}", user_id=f"u{number}", emissions=[kind], version=version,
                    event_time=2 * SECOND, settle_time=9 * SECOND, label_policy="t", items=["a"], positions=[0],
                )  # fmt: skip
                loop.producer.send(topics.name(SAMPLES), value=msgspec.json.encode(sample), partition=0)
        progress = Progress(
            partition=0, watermark=9 * SECOND, predictions_offset=0, outcomes_offset=0, ledger=Ledger(), sent_time=0
        )
        loop.send(SAMPLES, b"x", progress, partition=0)
        eventually(lambda: control(topics, "news").canary is None)
        eventually(lambda: f'everloop_steer_trials_total{{verdict="{said}"}} 1.0' in page(watcher, "/metrics"))
        eventually(lambda: (2, said) in {(each.version, each.event) for each in events(topics, "news")})
        assert control(topics, "news").version == (2 if said == "promoted" else 1)
    finally:
        watcher.stop()
        thread.join()


def test_a_canary_is_judged_on_settled_requests_of_both_arms() -> None:
    from everloop.steer.settings import CanarySettings, SteerSettings
    from everloop.steer.watch import Trial

    settings = SteerSettings(canary=CanarySettings(cap=1, clicks=1, grid=128, low=0.01))
    trial = Trial(Canary(version=2, share=0.5, started=SECOND), settings)
    for number in range(1200):
        version, clicked = 1 + number % 2, number % 3 == 0 and number % 2 == 0
        for kind in (0, 2) if clicked else (0,):
            sample = Sample(
                sample_id="s", request_id=f"r{number}", user_id=f"u{number}", emissions=[kind], version=version,
                event_time=2 * SECOND, settle_time=9 * SECOND, label_policy="t", items=["a"], positions=[0],
            )  # fmt: skip
            trial.sample(0, sample)
    assert trial.verdict().action == "wait", "nothing has settled"
    for number in range(1200):
        sample = Sample(
            sample_id="s", request_id=f"front{number}", user_id=f"v{number}", emissions=[1], policy=OBSERVED,
            fallback=OBSERVED, event_time=2 * SECOND, settle_time=9 * SECOND, label_policy="t", items=["a"], positions=[0],
        )  # fmt: skip
        trial.sample(0, sample)
    assert len(trial._open[0]) == 1200, "what something else chose is in neither arm"
    trial.progress(0, 9 * SECOND)
    assert trial.verdict().action == "drop"


def test_a_request_is_followed_to_what_the_model_knew_and_to_what_it_learned(
    topics: KafkaSettings, loop: Loop, tmp_path: Path
) -> None:
    from everloop.steer.explain import explain, partition_of
    from everloop.steer.text import told

    loop.answer("r1", model="news", version=5, epoch=1, sequence=12, policy="greedy")
    partition = partition_of("r1", 4)
    clicked = Outcome(event_id="e", request_id="r1", item_id="a", kind="click", event_time=2, sent_time=2)
    loop.send(OUTCOMES, b"r1", clicked)
    loop.send(OUTCOMES, b"other", clicked, partition=partition)
    sample = Sample(
        sample_id="s1", request_id="r1", user_id="u", event_time=1, settle_time=9, label_policy="click",
        emissions=[0, 0], positions=[0, 1], items=["a", "b"],
    )  # fmt: skip
    progress = Progress(
        partition=partition, watermark=0, predictions_offset=0, outcomes_offset=0, ledger=Ledger(), sent_time=0
    )
    loop.send(SAMPLES, b"x", progress, partition=partition)
    assert loop.send(SAMPLES, b"r1", sample, partition=partition) == 1
    # Sequence 11 ends before the sample, 12 within it (one example of two), 13 behind it.
    for sequence, offset, partial in ((11, 1, 0), (12, 1, 1), (13, 2, 0), (14, 3, 0)):
        step = Step(
            step=sequence, offsets={partition: offset}, examples=1, partial={partition: partial} if partial else {}
        )
        header = DeltaHeader(
            line="news-a", epoch=1, previous=sequence - 1, sequence=sequence, crc32c=0, steps=[step], watermark=sequence,
        )  # fmt: skip
        loop.send(DELTAS, b"news-a", b"", headers=header.record_headers())
    folder = tmp_path / "5"
    folder.mkdir()
    manifest = Manifest(
        model="news", line="news-a", version=5, epoch=1, sequence=10, step=10, created=1, offsets={partition: 0, 9: 7},
        watermark=3, metrics={}, digest="", features=[], files={}, code_version="0.1", checkpoint="c10",
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    loop.event(5, "gated", uri=str(folder), epoch=1)

    found = explain(topics, "r1")
    assert found.learned is not None
    assert (found.learned.base_sequence, found.learned.deltas, found.learned.complete) == (10, 2, True)
    assert found.learned.offsets == {partition: 1, 9: 7}
    assert found.learned.watermark == 12
    assert [o.event_id for o in found.outcomes] == ["e"]
    assert [t.sequence for t in found.samples[0].taught] == [12, 13]
    text = "\n".join(told(found))
    assert "news version 5, epoch 1, sequence 12" in text
    assert "carried by delta 13" in text
    with pytest.raises(UsageError, match="request nobody"):
        explain(topics, "nobody")


def test_a_fallback_answer_has_no_lineage_and_says_why(topics: KafkaSettings, loop: Loop) -> None:
    from everloop.steer.explain import explain

    loop.answer("r2", fallback="model_unavailable")
    found = explain(topics, "r2")
    assert found.learned is None
    assert found.note == "answered without the model's scores: model_unavailable"


def test_a_slate_that_something_else_chose_is_told_as_such_with_what_it_taught(
    topics: KafkaSettings, loop: Loop
) -> None:
    from everloop.steer.explain import explain, partition_of
    from everloop.steer.text import told

    loop.answer("front-1", model="news", policy=OBSERVED, fallback=OBSERVED)
    partition = partition_of("front-1", 4)
    sample = Sample(
        sample_id="s1", request_id="front-1", user_id="u", event_time=1, settle_time=9, label_policy="click",
        emissions=[0, 1], positions=[0, 1], items=["a", "b"], policy=OBSERVED, fallback=OBSERVED,
    )  # fmt: skip
    loop.send(SAMPLES, b"front-1", sample, partition=partition)
    step = Step(step=4, offsets={partition: 1}, examples=2)
    header = DeltaHeader(line="news-a", epoch=1, previous=3, sequence=4, crc32c=0, steps=[step], watermark=4)
    loop.send(DELTAS, b"news-a", b"", headers=header.record_headers())
    found = explain(topics, "front-1")
    assert (found.learned, found.served.policy) == (None, OBSERVED)
    assert [t.sequence for t in found.samples[0].taught] == [4]
    text = "\n".join(told(found))
    assert "observed    1970-01-01" in text
    assert "with 2 items, chosen elsewhere" in text
    assert "something else chose this slate" in text
    assert "1 negative, 1 positive" in text
    assert "carried by delta 4" in text
    assert "served by" not in text
    assert "answered" not in text


def test_the_control_record_of_a_model_that_nobody_steered_orders_nothing(topics: KafkaSettings) -> None:
    from everloop.steer.topics import control

    assert control(topics, "news") == Control(model="news")


def test_the_commands_say_what_is_and_do_what_is_asked(
    topics: KafkaSettings,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from everloop.cli import run

    monkeypatch.setenv("EVERLOOP_KAFKA__BOOTSTRAP", topics.bootstrap)
    monkeypatch.setenv("EVERLOOP_KAFKA__NAMESPACE", topics.namespace)
    monkeypatch.setenv("EVERLOOP_KAFKA__PARTITIONS", str(topics.partitions))
    data = f"--data={tmp_path}"
    for version in (1, 2):
        loop.event(version, "exported", uri="u", epoch=1)
        loop.event(version, "gated", uri="u", epoch=1)
    loop.replica("a", live=2, loaded={2: 9}, epoch=1)
    loop.answer("r3", fallback="model_unavailable")

    assert run(["pin", "2", data]) == 0
    assert "version 2 is pinned" in capsys.readouterr().out
    assert run(["versions", data, "--json"]) == 0
    listed = msgspec.json.decode(capsys.readouterr().out)
    assert [(row["version"], row["state"], row["pinned"]) for row in listed["versions"]] == [
        (2, "live", True),
        (1, "ready", False),
    ]
    assert run(["resume", "--skip", data]) == 2
    assert "nothing is paused" in capsys.readouterr().err
    assert run(["rollback", "--no-wait", data]) == 0
    assert "everloop resume" in capsys.readouterr().out
    assert run(["versions", data]) == 0
    assert "a at 9" in capsys.readouterr().out
    assert run(["resume", "--skip", data]) == 0
    assert run(["canary", "start", "1", data]) == 2, "its epoch is over"
    assert run(["explain", "r3", data]) == 0
    assert "model_unavailable" in capsys.readouterr().out
    assert run(["explain", "nobody", data]) == 2
