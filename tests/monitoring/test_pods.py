"""What Prometheus is told to scrape is what the pods of every overlay open."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.kustomize import build
from k8s.objects import WORKLOADS, Object, component, containers
from tests.monitoring.kit import MONITORING, dashboard

PAGES = {"metrics": "/metrics", "lead": "/metrics", "http": "/metrics", "rest": "/monitoring/prometheus/metrics"}
OVERLAYS = sorted(each.name for each in (MONITORING.parent / "overlays").iterdir())


def monitored(kind: str) -> list[Object]:
    return [item for item in build(MONITORING) if item["kind"] == kind]


def ports(overlay: str) -> dict[str, set[str]]:
    """The names of the ports of each part's pods."""
    found: dict[str, set[str]] = {}
    for item in build(MONITORING.parent / "overlays" / overlay):
        if item["kind"] in WORKLOADS:
            opened: list[dict[str, Any]] = [port for each in containers(item) for port in each.get("ports", ())]
            found[component(item)] = {port["name"] for port in opened}
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_port_that_is_scraped_is_one_that_a_pod_opens(overlay: str) -> None:
    opened = ports(overlay)
    scraped = {}
    for item in monitored("PodMonitor"):
        [part] = item["spec"]["selector"]["matchLabels"].values()
        ends = item["spec"]["podMetricsEndpoints"]
        assert {end["port"]: end["path"] for end in ends}.items() <= PAGES.items()
        scraped[part] = {end["port"] for end in ends}
        assert scraped[part] <= opened[part]
    assert set(scraped) == {"gateway", "streams", "trainer", "model-server", "steer"}


def test_the_dashboard_goes_to_grafana_as_it_is() -> None:
    [held] = monitored("ConfigMap")
    assert held["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert set(held["data"]) == {"everloop.json"}
    assert dashboard()["title"] == "everloop"


def test_a_name_in_a_rule_is_the_job_that_a_monitor_gives() -> None:
    [rules] = monitored("PrometheusRule")
    parts = {item["metadata"]["name"] for item in monitored("PodMonitor")}
    [down] = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if rule["alert"] == "TargetDown"]
    named = down["expr"].partition('job=~"')[2].partition('"')[0]
    assert set(named.split("|")) == parts
    assert all(item["spec"]["jobLabel"] == "app.kubernetes.io/component" for item in monitored("PodMonitor"))
