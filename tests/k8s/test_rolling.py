"""Rolling updates: they go through, never with fewer ready than the budget says, and a bad image stops them."""

from __future__ import annotations

from collections import defaultdict

import pytest
from kubernetes import client, watch

from k8s import releases
from k8s.objects import Object, component, containers, pod_spec
from k8s.ready import is_ready
from k8s.releases import target
from k8s.rollout import apply, history, tidy
from k8s.status import status
from tests.k8s.kit import House, until

PARTS = ("gateway", "model-server", "steer", "streams", "trainer")


def with_tag(items: list[Object], tag: str, parts: tuple[str, ...] = PARTS) -> list[Object]:
    for item in items:
        if pod_spec(item) is not None and component(item) in parts:
            for container in containers(item):
                container["image"] = f"{container['image'].rpartition(':')[0]}:{tag}"
    return items


def lacking(house: House) -> dict[str, str]:
    """What each part that is not ready says about it."""
    return {part.name: part.why for part in status(house.kube, house.name).parts if part.why}


def moment(house: House) -> str:
    """This moment, as the API server counts."""
    return str(house.core.list_namespaced_pod(house.name).metadata.resource_version)


def fewest_ready(house: House, since: str) -> dict[str, int]:
    """The least number of pods that were ready at once since a moment, of each part: as the API server's own log tells it."""
    ready: dict[str, set[str]] = defaultdict(set)
    path, query = f"/api/v1/namespaces/{house.name}/pods", {"resourceVersion": since, "resourceVersionMatch": "Exact"}
    for pod in house.kube.call("GET", path, query=query)["items"]:
        if is_ready(pod):
            ready[component(pod)].add(pod["metadata"]["uid"])
    fewest = {part: len(ready[part]) for part in PARTS}
    told = watch.Watch().stream(house.core.list_namespaced_pod, house.name, resource_version=since, timeout_seconds=1)
    for event in told:
        pod, part = event["raw_object"], component(event["raw_object"])
        up = event["type"] != "DELETED" and is_ready(pod)
        (ready[part].add if up else ready[part].discard)(pod["metadata"]["uid"])
        fewest[part] = min(fewest.get(part, 0), len(ready[part]))
    return fewest


def test_a_rolling_update_of_every_part_goes_through_and_keeps_the_budgets(house: House) -> None:
    items = house.live_in()
    budgets = {
        item["metadata"]["name"]: item["spec"]["maxUnavailable"]
        for item in items
        if item["kind"] == "PodDisruptionBudget"
    }
    wanted = {component(item): item["spec"]["replicas"] for item in items if pod_spec(item) is not None}
    before = {pod["metadata"]["uid"] for part in PARTS for pod in house.pods(part)}
    begun = moment(house)
    house.live_in(with_tag(house.rendered(), "next"))
    fewest = fewest_ready(house, begun)
    after = {pod["metadata"]["uid"] for part in PARTS for pod in house.pods(part)}
    assert before.isdisjoint(after)
    assert all(fewest[part] >= wanted[part] - budgets[part] for part in PARTS), fewest
    # Those of which there is one are never without: a new one stands beside before the old one goes.
    assert {part: fewest[part] for part in ("gateway", "model-server", "steer", "trainer")} == {
        "gateway": 1, "model-server": 1, "steer": 1, "trainer": 1,
    }  # fmt: skip


def test_a_bad_image_stops_the_roll_with_the_old_pods_serving_and_status_says_so(house: House) -> None:
    house.live_in()
    old = {part: {pod["metadata"]["uid"] for pod in house.pods(part)} for part in PARTS}
    broken = with_tag(house.rendered(), "broken")
    apply(house.kube, broken, namespace=house.name, say=house.said.append)
    until(lambda: all(part.why for part in status(house.kube, house.name).parts if part.name in PARTS))
    found = {part.name: part for part in status(house.kube, house.name).parts}
    for part in PARTS:
        assert "ImagePullBackOff: Back-off pulling image" in found[part].why, found[part]
    # `streams` has one pod, which is replaced in its place: its partitions wait for it.
    for part in ("gateway", "model-server", "steer", "trainer"):
        still = {pod["metadata"]["uid"] for pod in house.pods(part) if is_ready(pod)}
        assert still and still <= old[part]
        assert len(house.addresses("gateway")) == 1
    assert len(house.addresses("model-server")) == 1


def test_a_rollback_after_a_bad_image_brings_everything_back(house: House) -> None:
    first = house.live_in()
    apply(house.kube, with_tag(house.rendered(), "broken"), namespace=house.name, say=house.said.append)
    until(lambda: sum(is_ready(pod) for pod in house.pods("gateway")) == 1)
    chosen = target(history(house.kube, house.name), None)
    assert (chosen.number, chosen.objects) == (1, first)
    house.live_in(chosen.objects)
    assert all(is_ready(pod) for pod in house.pods("gateway"))
    assert history(house.kube, house.name)[-1].number == 3
    assert [part.why for part in status(house.kube, house.name).parts] == [""] * 7


def test_a_quota_that_is_too_small_is_named_with_what_it_lacks(house: House) -> None:
    spec = {"hard": {"requests.cpu": "1", "requests.memory": "64Gi"}}
    house.core.create_namespaced_resource_quota(house.name, {"metadata": {"name": "small"}, "spec": spec})
    until(lambda: house.core.read_namespaced_resource_quota("small", house.name).status.used)
    apply(house.kube, house.rendered(), namespace=house.name, say=house.said.append)
    # Those for which there was room have a pod, and a reason of their own until it is ready.
    until(
        lambda: (
            (whys := lacking(house)) and all("quota small is too small: requests.cpu" in why for why in whys.values())
        )
    )
    whys = lacking(house)
    assert any(" more (a pod needs " in why and " of 1 are used)" in why for why in whys.values()), whys


def test_a_trainer_that_finds_no_gpu_says_so(house: House) -> None:
    house.live_in(house.rendered("gpu"))
    assert house.pods("trainer")[0]["spec"]["nodeName"] == "gpu-0"
    scale = {"spec": {"replicas": 3}}
    client.AppsV1Api(house.cluster.client()).patch_namespaced_deployment_scale("trainer", house.name, scale)
    until(
        lambda: (
            "Insufficient nvidia.com/gpu"
            in next(p.why for p in status(house.kube, house.name).parts if p.name == "trainer")
        )
    )


def test_releases_and_configurations_that_nobody_can_go_back_to_are_removed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "KEEP", 2)
    for number in range(4):
        items = house.rendered(config=f'[kafka]\nbootstrap = "kafka:{9000 + number}"\n')
        kept = [item for item in items if item["kind"] in ("ConfigMap", "Namespace")]
        apply(house.kube, kept, namespace=house.name, say=house.said.append)
        tidy(house.kube, kept, namespace=house.name)
    assert [each.number for each in history(house.kube, house.name)] == [3, 4]
    names = [each["metadata"]["name"] for each in house.kube.listed("v1", "ConfigMap", house.name)]
    assert sum(name.startswith("everloop-") and "release" not in name for name in names) == 2
