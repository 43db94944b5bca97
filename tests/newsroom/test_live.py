"""Readers as clients of a real gateway and a real Kafka: what arrives there is what the world says, and what does not is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from everloop import cli
from everloop.config.load import load
from feedback.errors import EventError, UnavailableError, UsageError
from feedback.events import OBSERVED, Outcome, Prediction
from feedback.features import Feature
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS
from newsroom.arrival import click_delay
from newsroom.live import Live, LiveSettings
from newsroom.requests import FEATURES
from newsroom.settings import ArrivalSettings, ReaderSettings, WorldSettings
from newsroom.world import World
from serving.gateway.access import digest
from serving.gateway.settings import GatewaySettings, KeySettings
from serving.protocol.fake import FakeModelServer
from serving.protocol.serving_pb2 import TensorProto
from tests.gateway.conftest import Start
from tests.gateway.world import PATIENT, model, read_all

NOBODY = "127.0.0.1:1"
QUIET = GatewaySettings(ticks=False, budget=PATIENT)
SPEED = 100.0


@pytest.fixture(scope="module")
def world() -> World:
    """An hour and a bit, of which a run takes a part. Nobody comes back, and half of all outcomes come twice."""
    readers = ReaderSettings(visits_per_day=250_000.0, fresh=1.0)
    return World(WorldSettings(days=0.05, readers=readers, arrival=ArrivalSettings(duplicate=0.5)), seed=5)


def settings(
    gateway: str, kafka: KafkaSettings | str, *, key: str = "", connections: int = 64, patience_s: float = 10.0
) -> LiveSettings:
    """Two and a half minutes of the world in a second and a half; all that comes of them is waited for."""
    return LiveSettings(
        gateway=gateway,
        kafka=KafkaSettings(bootstrap=kafka) if isinstance(kafka, str) else kafka,
        key=key,
        speed=SPEED,
        start_s=0.0,
        duration_s=150.0,
        linger_s=500.0,
        connections=connections,
        patience_s=patience_s,
    )


def topics(kafka: KafkaSettings) -> tuple[list[Prediction], list[Outcome]]:
    """What is in Kafka of both."""
    predictions = [event for _, _, event in read_all(kafka, PREDICTIONS) if isinstance(event, Prediction)]
    return predictions, [event for _, _, event in read_all(kafka, OUTCOMES) if isinstance(event, Outcome)]


def articles(prediction: Prediction) -> list[int]:
    """The slate, as the world numbers its articles."""
    return [int(name.partition("-")[2]) for name in prediction.items]


def test_each_visit_gets_its_slate_and_what_arrives_in_kafka_is_what_the_world_says_of_that_slate(
    start: Start, loop_kafka: KafkaSettings, world: World
) -> None:
    gateway = start(QUIET, features=FEATURES)
    live = Live(world, settings(gateway.url, loop_kafka))
    tally = live.run()
    visits = live.visits
    assert gateway.stop() == 0
    predictions, outcomes = topics(loop_kafka)
    # Readers' names and what they read before tell the visits apart.
    keys = [
        (f"u{world.seed}-{reader}", f"n{world.seed}-{prev}" if prev >= 0 else "none")
        for reader, prev in zip(visits.reader, visits.previous, strict=True)
    ]
    assert len(set(keys)) == len(keys) == len(predictions) == tally.asked == tally.shown.slates
    by = {(each.user_id, str(each.context["previous"])): each for each in predictions}
    shown = [by[key] for key in keys]
    slates = np.array([articles(each) for each in shown])
    truth, clicked = world.probabilities(visits, slates), world.clicks(visits, slates)
    offered = world.candidates(visits)
    best = np.sort(world.attraction(visits, offered), axis=1)[:, ::-1][:, :5] @ world.examination
    assert tally.shown.truth == pytest.approx(truth.sum())
    assert tally.shown.best == pytest.approx(best.sum())
    assert tally.shown.random == pytest.approx(
        world.attraction(visits, offered).mean(axis=1).sum() * world.examination.sum()
    )
    assert tally.shown.clicks == clicked.sum() > 50
    assert list(tally.by_policy) == [shown[0].policy]
    assert list(tally.by_version) == ["7"]

    assert len(outcomes) == tally.sent.total() == tally.confirmed
    assert Counter(each.kind for each in outcomes) == tally.sent
    sent = {each.event_id: each for each in outcomes}
    repeats = len(outcomes) - len(sent)
    assert repeats > len(sent) / 5
    clicks = {(each.request_id, each.item_id) for each in sent.values() if each.kind == "click"}
    happened = {
        (each.request_id, each.items[k]) for each, row in zip(shown, clicked, strict=True) for k in np.flatnonzero(row)
    }
    assert clicks <= happened
    assert len(happened - clicks) <= tally.unsent
    times = {each.request_id: (each.event_time, visit) for each, visit in zip(shown, visits.id, strict=True)}
    for each in sent.values():
        if each.kind == "click":
            at, visit = times[each.request_id]
            article = np.array([int(each.item_id.partition("-")[2])])
            delay = click_delay(world.settings.arrival, world.seed, np.array([visit]), article)[0] / SPEED
            # The gateway dates the slate a moment before its reader has it.
            assert -0.001 <= (each.event_time - at) / 1e6 - delay < 10.0
            assert each.sent_time >= each.event_time - 1_000


def test_the_front_page_is_reported_as_it_was_noticed_and_one_headline_of_each_is_opened(
    start: Start, loop_kafka: KafkaSettings, world: World
) -> None:
    gateway = start(QUIET, features=FEATURES)
    live = Live(world, replace(settings(gateway.url, loop_kafka), front_page=True))
    tally = live.run()
    assert gateway.stop() == 0
    predictions, outcomes = topics(loop_kafka)
    observed = {each.request_id: each for each in predictions if each.policy == OBSERVED}
    assert (
        tally.front.slates
        == len(observed)
        == len(live.visits)
        == tally.shown.slates
        == len(predictions) - len(observed)
    )
    assert {each.context["page"] for each in predictions} == {"article", "front_page"}
    keys = [
        (f"u{world.seed}-{visit.reader[0]}", visit) for visit in map(live.visits.part, one_by_one(len(live.visits)))
    ]
    noticed = world.noticed(live.visits)
    wanted = {
        user: (list(dict.fromkeys(noticed[k].tolist())), int(visit.article[0])) for k, (user, visit) in enumerate(keys)
    }
    alone = [each for each in observed.values() if sum(user == each.user_id for user, _ in keys) == 1]
    assert len(alone) > 50
    assert all(articles(each) == wanted[each.user_id][0] for each in alone)
    opened = {
        each.request_id: each.item_id for each in outcomes if each.kind == "click" and each.request_id in observed
    }
    assert len(opened) > len(observed) / 2
    assert tally.front.clicks == len(observed)
    for each in alone:
        if each.request_id in opened:
            assert opened[each.request_id] == f"n{world.seed}-{wanted[each.user_id][1]}"


def one_by_one(count: int) -> list[slice]:
    return [slice(k, k + 1) for k in range(count)]


def test_answers_without_a_model_are_told_apart(start: Start, loop_kafka: KafkaSettings, world: World) -> None:
    tally = Live(
        world, settings(start(GatewaySettings(ticks=False), features=FEATURES, model_server=NOBODY).url, loop_kafka)
    ).run()
    assert tally.fallbacks.total() == tally.shown.slates == tally.asked
    assert list(tally.by_version) == ["none"]
    assert not tally.errors


def test_nobody_at_the_address_is_said_with_the_address(world: World) -> None:
    with pytest.raises(UnavailableError, match=rf"http://{NOBODY}: no answer within 0.3 s"):
        Live(world, settings(f"http://{NOBODY}", NOBODY, patience_s=0.3)).run()


def test_a_wrong_key_and_a_feature_of_another_kind_end_the_run_with_the_gateways_words(
    start: Start, world: World
) -> None:
    key = KeySettings(name="site", sha256=digest("right"), scopes=("recommend",))
    other = (*FEATURES[:-2], Feature(name="age", source="candidate", kind="number"))
    gateway = start(GatewaySettings(ticks=False, keys=(key,)), features=other)
    with pytest.raises(UsageError, match="401"):
        Live(world, settings(gateway.url, NOBODY, key="wrong", patience_s=0.3)).run()
    with pytest.raises(EventError, match=r"age = .*a value of kind number"):
        Live(world, settings(gateway.url, NOBODY, key="right", patience_s=0.3)).run()


def test_a_gateway_that_goes_away_costs_answers_and_they_are_counted(
    start: Start, loop_kafka: KafkaSettings, world: World
) -> None:
    gateway = start(QUIET, features=FEATURES)
    live = Live(world, settings(gateway.url, loop_kafka, patience_s=0.3))
    threading.Timer(0.5, gateway.kill).start()
    tally = live.run()
    assert list(tally.errors) == ["no answer"]
    assert tally.shown.slates > 0
    assert tally.shown.slates + tally.errors.total() == tally.asked == len(live.visits)


def test_outcomes_that_find_no_kafka_are_not_called_sent(start: Start, world: World) -> None:
    tally = Live(world, settings(start(QUIET, features=FEATURES).url, NOBODY, patience_s=1.0)).run()
    assert tally.confirmed == 0
    assert tally.unconfirmed == tally.sent.total() > 0
    assert NOBODY in tally.kafka_error


def test_what_is_asked_for_too_fast_is_asked_late_and_in_full_and_the_tally_says_so(
    start: Start, loop_kafka: KafkaSettings, fake_model: FakeModelServer, world: World
) -> None:
    def slow(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
        time.sleep(0.01)
        return model(signature, inputs)

    fake_model.model = slow
    live = Live(world, settings(start(QUIET, features=FEATURES).url, loop_kafka, connections=1))
    tally = live.run()
    assert tally.shown.slates == len(live.visits)
    assert tally.late > 0
    assert not tally.kept_pace
    summary = tally.summary()
    assert summary["behind_s"] > 1
    assert summary["asked_per_s"] < summary["wanted_per_s"]


def test_a_stop_ends_the_asking_and_leaves_what_has_not_happened_yet(
    start: Start, loop_kafka: KafkaSettings, world: World
) -> None:
    live = Live(world, settings(start(QUIET, features=FEATURES).url, loop_kafka))
    threading.Timer(0.7, live.stop).start()
    tally = live.run()
    assert 0 < tally.asked < len(live.visits)
    assert tally.shown.slates == tally.asked
    assert tally.unsent > 0
    assert not tally.unconfirmed


def command(gateway: str, kafka: KafkaSettings, *more: str) -> list[str]:
    small = ["--set=days=0.05", "--start=0", "--readers=100000", "--seed=3", f"--speed={SPEED}"]
    return ["newsroom", f"--gateway={gateway}", f"--kafka={kafka.bootstrap}", "--json", *small, *more]


def test_ctrl_c_ends_the_command_with_its_summary_and_without_a_data_folder(
    start: Start, loop_kafka: KafkaSettings, tmp_path: Path
) -> None:
    gateway = start(QUIET, features=FEATURES)
    environ = os.environ | {"EVERLOOP_KAFKA__NAMESPACE": loop_kafka.namespace, "EVERLOOP_DATA": str(tmp_path / "none")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "everloop", *command(gateway.url, loop_kafka)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        text=True,
    )
    try:
        while gateway.status()["requests"] < 20:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    found = json.loads(printed)
    assert found["answers"] == found["requests"] >= 20
    assert found["outcomes_unconfirmed"] == 0
    assert found["random_click_rate"] < found["oracle_click_rate"]
    assert not (tmp_path / "none").exists()


def test_what_is_asked_wrongly_is_said_in_one_line(
    kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = [f"--data={tmp_path}", f"--kafka={kafka}", "--gateway=http://127.0.0.1:1"]
    for arguments, words in (
        ([f"--data={tmp_path}", f"--kafka={kafka}"], "nothing is up in"),
        ([*nowhere, "--speed=0"], "speed = 0: above 0"),
        ([*nowhere, "--set=slates.pool"], "NAME=VALUE"),
        ([*nowhere, "--set=slate.pool=3"], "--set slate.pool: one of"),
        ([*nowhere, "--set=slates.pool=many"], "slates.pool"),
        ([*nowhere, "--duplicate=1.5"], "arrival.duplicate = 1.5: from 0 to 1"),
        ([*nowhere, "--duration=1e9"], "the world ends at 172800 s"),
        ([*nowhere, "--gateway=there"], "gateway = 'there': a URL"),
    ):
        assert cli.run(["newsroom", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert cli.run(["newsroom", f"--data={tmp_path}", f"--kafka={NOBODY}", "--gateway=http://127.0.0.1:1"]) == 1
    assert f"no broker answers at {NOBODY}" in capsys.readouterr().err


def test_the_printed_configuration_is_one_that_a_loop_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["newsroom", "--print-config"]) == 0
    file = tmp_path / "everloop.toml"
    file.write_text(capsys.readouterr().out)
    assert load(file, environ={}).config.features == FEATURES
