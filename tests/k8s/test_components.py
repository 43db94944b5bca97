"""What an overlay takes in, and what it can do without: switched on, switched off, and missing an operator."""

from __future__ import annotations

import json

import pytest
from kubernetes import client

from k8s.objects import Object
from k8s.releases import dropped
from k8s.render import Wanted, render
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, Shell, define, until

PROMETHEUS = "monitoring.coreos.com/v1"


def monitors(house: House) -> set[str]:
    return {item["metadata"]["name"] for item in house.kube.listed(PROMETHEUS, "PodMonitor", house.name)}


def dashboards(house: House) -> list[Object]:
    return house.kube.listed("v1", "ConfigMap", house.name, selector="grafana_dashboard=1")


def test_production_brings_its_alerts_its_monitors_and_its_dashboard(house: House, shell: Shell) -> None:
    status, _, err = shell("apply", "-n", house.name, "--overlay", "production")
    assert status == 0, err
    assert monitors(house) == {"gateway", "streams", "trainer", "model-server", "steer"}
    [rules] = house.kube.listed(PROMETHEUS, "PrometheusRule", house.name)
    assert {"FreshnessOverBudget", "LedgerResidual"} <= {
        rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]
    }
    [dashboard] = dashboards(house)
    assert json.loads(dashboard["data"]["everloop.json"])["title"] == "everloop"
    assert shell("diff", "-n", house.name, "--overlay", "production")[:2] == (0, "no difference\n")


def test_a_component_is_switched_on_and_off_again_and_the_release_before_brings_it_back(
    house: House, shell: Shell
) -> None:
    house.live_in()
    status, _, err = shell("apply", "-n", house.name, "--with", "monitoring")
    assert status == 0, err
    assert monitors(house) and dashboards(house)
    status, out, _ = shell("diff", "-n", house.name)
    assert status == 1
    assert "PodMonitor gateway: remove" in out and "change" not in out
    status, _, err = shell("apply", "-n", house.name)
    assert status == 0, err
    assert "removed PrometheusRule everloop: the release before had it, this one has not" in err
    assert not monitors(house) and not dashboards(house)
    assert shell("diff", "-n", house.name)[0] == 0
    assert shell("rollback", "-n", house.name)[0] == 0
    assert monitors(house) and dashboards(house)


def test_what_holds_data_and_what_pods_may_still_read_outlives_the_release_that_had_it() -> None:
    before = render(Wanted(overlay="production"))
    after = render(Wanted(overlay="single", config="[trainer.versions]\nkeep = 5\n"))
    gone = {(item["kind"], item["metadata"]["name"]) for item in dropped(before, after)}
    assert {("HorizontalPodAutoscaler", "gateway"), ("PodMonitor", "steer"), ("PrometheusRule", "everloop")} <= gone
    assert not {kind for kind, _ in gone} & {"KafkaTopic", "Kafka", "PersistentVolumeClaim", "Namespace", "Lease"}
    assert [name.rpartition("-")[0] for kind, name in gone if kind == "ConfigMap"] == ["everloop-dashboard"]


def test_without_the_operator_an_apply_says_so_before_it_begins_and_how_to_do_without(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    own_cluster.add_node("node-0")
    define(own_cluster, "strimzi")
    house, shell = House(own_cluster), Shell(own_cluster, monkeypatch, capfd)
    status, _, err = shell("apply", "-n", house.name, "--overlay", "production")
    assert status == 1
    assert (
        f"has no kind PodMonitor, PrometheusRule in {PROMETHEUS}: install what defines it (the Prometheus operator), "
        "or leave it out: --without monitoring; nothing was applied"
    ) in err
    apps = client.AppsV1Api(own_cluster.client())
    assert not apps.list_namespaced_deployment(house.name).items
    assert "--without monitoring" in shell("diff", "-n", house.name, "--overlay", "production")[2]
    status, _, err = shell("apply", "-n", house.name, "--overlay", "production", "--without", "monitoring")
    assert status == 0, err
    # An operator that goes takes its kinds with it: what is left can still be deleted.
    extensions = client.ApiextensionsV1Api(own_cluster.client())
    for each in extensions.list_custom_resource_definition().items:
        extensions.delete_custom_resource_definition(each.metadata.name)
    until(lambda: not extensions.list_custom_resource_definition().items)
    status, out, err = shell("delete", "-n", house.name, "--yes")
    assert status == 0, err
    assert "deleted Deployment trainer" in out
    until(lambda: not house.pods("trainer"))
    _, _, err = shell("apply", "-n", house.name, "--overlay", "production", "--without", "monitoring")
    assert (
        "(the Strimzi operator), or leave it out: --without strimzi --with kafka-elsewhere; nothing was applied" in err
    )


def test_delete_takes_everything_that_was_applied_whatever_it_was_applied_with(house: House, shell: Shell) -> None:
    assert shell("apply", "-n", house.name, "--with", "monitoring")[0] == 0
    assert shell("delete", "-n", house.name, "--yes")[0] == 0
    assert not monitors(house) and not dashboards(house)


def test_the_key_that_prometheus_needs_is_asked_for_where_it_is_needed(house: House, shell: Shell) -> None:
    house.core.delete_namespaced_secret("gateway-scrape", house.name)
    status, _, err = shell("apply", "-n", house.name, "--with", "monitoring")
    assert status == 2
    assert f"namespace {house.name} lacks Secret gateway-scrape" in err
    assert shell("diff", "-n", house.name)[0] == 1


def test_the_newsroom_comes_where_it_is_asked_for_with_a_key_and_goes_again(house: House, shell: Shell) -> None:
    house.core.delete_namespaced_secret("newsroom-key", house.name)
    status, _, err = shell("apply", "-n", house.name, "--with", "newsroom")
    assert status == 2
    assert f"namespace {house.name} lacks Secret newsroom-key" in err
    house.secret("newsroom-key", key="k")
    status, _, err = shell("apply", "-n", house.name, "--with", "newsroom")
    assert status == 0, err
    assert len(house.pods("newsroom")) == 1
    assert "newsroom" in shell("status", "-n", house.name)[1]
    status, _, err = shell("apply", "-n", house.name)
    assert status == 0, err
    assert "removed Deployment newsroom" in err
    until(lambda: not house.pods("newsroom"))
    assert house.pods("gateway")
