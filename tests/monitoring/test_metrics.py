"""What the rules and the dashboard ask for is what the parts export: each part run, its /metrics read."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from everloop.steer.metrics import Metrics as SteerMetrics
from feedback.settings import KafkaSettings
from k8s.face import serve
from serving.gateway.metrics import Metrics as GatewayMetrics
from serving.model_server.faults import Code
from serving.model_server.metrics import Metrics as ServerMetrics
from tests.follower.conftest import Start
from tests.gateway.house import House, at_home
from tests.monitoring import kit

Exported = dict[str, dict[str, set[str]]]
"""The values of each label of each metric."""


def read(text: str) -> Exported:
    found: Exported = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def wanted(*prefixes: str) -> Iterator[tuple[str, str]]:
    """The name of each rule, panel and autoscaler's metric with its expression, and only the metrics of some parts."""
    rules = [(rule["alert"], rule["expr"]) for rule in kit.alerts()]
    for name, expression in (*rules, *kit.queries(), *kit.adapted()):
        for metric in kit.metrics_in(expression):
            if metric.startswith(prefixes):
                yield f"{name}: {metric}", expression


def missing(exported: Exported, *metrics: str) -> list[str]:
    """What is asked of some metrics that the part does not export."""
    found = []
    for where, expression in wanted(*metrics):
        metric = where.split(": ")[-1]
        if metric not in exported:
            found.append(where)
            continue
        for name, label, value in kit.matchers_in(expression):
            here = exported[metric]
            if name == metric and label not in kit.SCRAPE and value not in here.get(label, ()):
                found.append(f"{where}: {label}={value!r}, exported are {sorted(here.get(label, ()))}")
    return found


def labelled(exported: Exported, *prefixes: str) -> list[str]:
    """Labels that are asked for in an expression over these metrics alone, and that none of its metrics has."""
    found = []
    for where, expression in wanted(*prefixes):
        metrics = kit.metrics_in(expression)
        if metrics <= exported.keys():
            known = {label for metric in metrics for label in exported[metric]} | kit.SCRAPE
            found += [f"{where}: {label}" for label in kit.labels_in(expression) - known]
    return found


GATEWAY = (
    "everloop_recommend",
    "everloop_observed",
    "everloop_http_",
    "everloop_fallbacks",
    "everloop_degraded",
    "everloop_unlogged",
    "everloop_spool_",
    "everloop_breaker_",
)


def test_the_gateway_exports_what_is_asked_of_it() -> None:
    text: list[str] = []

    async def visit(house: House) -> None:
        await house.recommend(["i1", "i2"])
        await house.recommend()
        text.append((await house.http.get("/metrics")).text)

    at_home(visit)
    exported = read(text[0])
    assert missing(exported, *GATEWAY) == []
    assert labelled(exported, *GATEWAY) == []


def test_the_join_exports_what_is_asked_of_it(kafka: str, redis_url: str, namespace: str, tmp_path: Path) -> None:
    from feedback.topics import create_topics
    from tests.streams.test_worker import Loop, until
    from tests.streams.world import outcome, prediction

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=1)
    create_topics(settings)
    loop = Loop(settings, redis_url, tmp_path)
    try:
        loop.send(prediction("r1", 0, ["a", "b"]), outcome("r1", 5, "b"), outcome("r1", 6, "z"))
        until(lambda: loop.samples() and "dead_letters_total{" in loop.page("/metrics").decode())
        exported = read(loop.page("/metrics").decode())
    finally:
        loop.producer.close()
        loop.worker.stop()
    assert missing(exported, "everloop_join_") == []
    assert labelled(exported, "everloop_join_") == []


def test_the_trainer_exports_what_is_asked_of_it(world: Any) -> None:
    from tests.trainer.loop.running import caught_up, turn_until
    from tests.trainer.loop.world import slates
    from trainer.observe import StatusServer
    from trainer.origin import Alarm
    from trainer.rollback import refuse

    trainer = world.trainer()
    world.join.write(list(slates(80)))
    turn_until(trainer, caught_up(trainer))
    trainer.release_version()
    trainer.status()  # sets the gauges, as each look does; a refusal goes back to where nothing had settled
    refuse(trainer, Alarm("log_loss_cusum", 9.0, 5.0, 1))
    trainer.shown = trainer.status()
    server = StatusServer(trainer.show.registry, lambda: trainer.shown, port=0, host="127.0.0.1")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            exported = read(answer.read().decode())
    finally:
        server.close()
    assert missing(exported, "everloop_trainer_") == []
    assert labelled(exported, "everloop_trainer_") == []
    assert {"joined", "trained"} <= exported["everloop_freshness_seconds_count"]["stage"]


def test_the_follower_exports_what_is_asked_of_it(follow: Start, line: Any, server: Any) -> None:
    from serving.follower.main import serve
    from tests.follower.stage import eventually, is_live

    line.base(1)
    follower = follow()
    eventually(lambda: is_live(follower, 1, 0))
    line.delta()
    eventually(lambda: is_live(follower, 1, 1))
    http = serve(follower, host="127.0.0.1", port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http.server_port}/metrics", timeout=10) as answer:
            exported = read(answer.read().decode())
    finally:
        http.shutdown()
        http.server_close()
    assert missing(exported, "everloop_follower_") == []
    assert labelled(exported, "everloop_follower_") == []
    assert "synced" in exported["everloop_freshness_seconds_count"]["stage"]


def test_the_watcher_exports_what_is_asked_of_it() -> None:
    exported = read(generate_latest(SteerMetrics().registry).decode())
    assert missing(exported, "everloop_steer_") == []
    assert labelled(exported, "everloop_steer_") == []


@dataclass
class Candidate:
    """One that stands by until it is told to lead."""

    leading: bool = False
    verdict: str = "theirs"
    turned: float = 0.0


def test_a_trainer_that_stands_by_exports_what_is_asked_of_it() -> None:
    server = serve(Candidate(), lease="trainer", health="http://127.0.0.1:1/health", port=0, host="127.0.0.1")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            exported = read(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
    assert missing(exported, "everloop_lead_") == []
    assert labelled(exported, "everloop_lead_") == []


def test_the_model_server_exports_what_is_asked_of_it() -> None:
    metrics = ServerMetrics()
    metrics.count_request("news", Code.OK)
    metrics.request_latency.observe(18.0, "news", "Predict", "GRPC")
    exported = read_lines(metrics.text())
    assert missing(exported, ":tensorflow:") == []
    assert labelled(exported, ":tensorflow:") == []


def read_lines(text: str) -> Exported:
    """As `read`; the client library's parser knows no names with colons at their beginning."""
    import re

    found: Exported = {}
    for name, inside in re.findall(r"^([\w:]+)\{([^}]*)\} \S+$", text, re.MULTILINE):
        labels = found.setdefault(name, defaultdict(set))
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside):
            labels[label].add(value)
    return found


def test_every_stage_of_freshness_that_is_asked_for_has_a_part_that_exports_it() -> None:
    asked = {
        value
        for _, expression in wanted("everloop_freshness_")
        for name, label, value in kit.matchers_in(expression)
        if name.startswith("everloop_freshness_") and label == "stage"
    }
    gateway = read(GatewayMetrics().text().decode())["everloop_freshness_seconds_count"]["stage"]
    assert asked == {"joined", "trained", "synced"} | (gateway - {"served"})


def test_nothing_is_asked_of_a_part_that_there_is_not() -> None:
    known = (
        *GATEWAY,
        "everloop_join_",
        "everloop_trainer_",
        "everloop_lead_",
        "everloop_follower_",
        "everloop_steer_",
        ":tensorflow:",
    )
    everything = dict(wanted(""))
    asked = {where.split(": ")[-1] for where in everything}
    assert {metric for metric in asked if not metric.startswith((*known, "everloop_freshness_"))} == {"up"}


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ("max by (a) (abs(x)) > 0", {"x"}, {"a"}),
        ('absent(up{job="g"}) or absent(up{job="s"})', {"up"}, {"job"}),
        ("predict_linear(x[10m], 3600) > y and z > 60", {"x", "y", "z"}, set()),
        ("deriv(sum by (n) (x)[10m:1m]) > 1e3 unless y offset 5m", {"x", "y"}, {"n"}),
        ('rate(:tensorflow:serving:request_count{s=~"a{2}"}[5m])', {":tensorflow:serving:request_count"}, {"s"}),
    ],
)
def test_an_expression_is_read_as_prometheus_reads_it(expression: str, metrics: set[str], labels: set[str]) -> None:
    assert kit.metrics_in(expression) == metrics
    assert kit.labels_in(expression) == labels


def test_the_dashboard_has_a_row_for_each_stage_and_begins_with_freshness() -> None:
    panels: list[Mapping[str, Any]] = kit.dashboard()["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Freshness", "Answer", "Join", "Train", "Sync", "Predict"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert panel["type"] == "row" or (panel["targets"] and panel["description"]), panel["title"]


def test_every_query_of_the_dashboard_keeps_to_the_namespace_chosen() -> None:
    for title, expression in kit.queries():
        selectors = expression.count("everloop_") + expression.count(":tensorflow:")
        assert expression.count('namespace="$namespace"') == selectors, title
    assert json.dumps(kit.dashboard()).count("$namespace") > 0
