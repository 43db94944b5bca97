"""Every object of every overlay: as kustomize makes it, as the API server allows it, and as the code expects it."""

from __future__ import annotations

import copy
import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import typer
import yaml
from kubernetes.client import ApiException

from everloop.cli import application
from everloop.config.addresses import AddressSettings
from everloop.config.load import load
from everloop.figures import Report
from everloop.loop import SERVING_FLAGS
from everloop.run import PARTS
from feedback.errors import UsageError
from feedback.topics import TOPICS
from k8s.kustomize import FILE, build
from k8s.objects import WORKLOADS, Object, component, containers, key, pod_spec
from k8s.ready import number
from k8s.render import CONFIG, FOLDER, Wanted, overlays, render
from serving.model_server.flags import parse
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import ANYWHERE, KEYS, House

ROOT = FOLDER.parent

OURS = ("gateway", "streams", "trainer", "model-server", "steer")


def workloads(overlay: str) -> list[Object]:
    return [item for item in render(Wanted(overlay=overlay)) if item["kind"] in WORKLOADS]


def environment(item: Object, container: Object) -> dict[str, str]:
    """The variables of a container, with what a Secret or the pod would give."""
    given = {"EVERLOOP_GATEWAY__KEYS": KEYS, "EVERLOOP_ADDRESSES__REPLICA": "pod-0", "POD_NAME": "pod-0"}
    return {each["name"]: each.get("value", given.get(each["name"], "secret")) for each in container.get("env", ())}


def pod_of(item: Object) -> Object:
    """A pod as a workload makes it, with its own volumes empty."""
    spec = copy.deepcopy(pod_spec(item)) or {}
    claims = item["spec"].get("volumeClaimTemplates", ())
    spec.setdefault("volumes", []).extend({"name": each["metadata"]["name"], "emptyDir": {}} for each in claims)
    return {"metadata": {"generateName": "try-"}, "spec": spec}


def configuration(overlay: str) -> str:
    [found] = [
        item["data"][CONFIG]
        for item in render(Wanted(overlay=overlay))
        if item["kind"] == "ConfigMap" and CONFIG in item["data"]
    ]
    return str(found)


def with_components(overlay: str, folder: Path) -> Path:
    """A copy of an overlay that takes in every component, as somebody writes it who has no command but kubectl."""
    source, target = FOLDER / "overlays" / overlay, folder / overlay
    shutil.copytree(source, target)
    said = yaml.safe_load((source / FILE).read_text())
    for name in ("resources", "components"):
        here = [
            each if (source / each).is_file() else os.path.relpath(source / each, target) for each in said.get(name, ())
        ]
        said[name] = here
    taken = {Path(each).name for each in said["components"]}
    extra = [os.path.relpath(FOLDER / "components" / name, target) for name in ANYWHERE if name not in taken]
    said["components"] = extra + said["components"]
    (target / FILE).write_text(yaml.safe_dump(said, sort_keys=False))
    return target


def same(cluster: Cluster, folder: Path, ours: list[Object]) -> None:
    done = cluster.kubectl("kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    theirs = {key(item): item for item in yaml.safe_load_all(done.stdout)}
    assert {key(item) for item in ours} == set(theirs)
    for item in ours:
        assert item == theirs[key(item)]


@pytest.mark.parametrize("overlay", overlays())
def test_python_renders_what_kustomize_does(cluster: Cluster, overlay: str) -> None:
    same(cluster, FOLDER / "overlays" / overlay, build(FOLDER / "overlays" / overlay))


@pytest.mark.parametrize("overlay", overlays())
def test_a_component_that_an_option_takes_in_is_as_kustomize_takes_it_in(
    cluster: Cluster, overlay: str, tmp_path: Path
) -> None:
    ours = render(Wanted(overlay=overlay, components=ANYWHERE))
    same(cluster, with_components(overlay, tmp_path), ours)


@pytest.mark.parametrize("extra", [(), ANYWHERE], ids=["as-it-is", "with-all"])
@pytest.mark.parametrize("overlay", overlays())
def test_the_api_server_accepts_every_object_with_every_field(
    house: House, overlay: str, extra: tuple[str, ...]
) -> None:
    # Tried only, where a component asks for one of the cluster's few GPUs.
    for item in house.rendered(overlay, components=extra):
        house.kube.apply(item, dry_run=bool(extra))


@pytest.mark.parametrize("overlay", overlays())
def test_every_pod_is_allowed_in_a_restricted_namespace(house: House, overlay: str) -> None:
    items = house.rendered(overlay, components=ANYWHERE)
    for item in items:
        if item["kind"] in ("Namespace", "ServiceAccount"):
            house.kube.apply(item)
    for item in items:
        if item["kind"] in WORKLOADS:
            house.core.create_namespaced_pod(house.name, pod_of(item), dry_run="All")


def test_a_component_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="with = 'news': one of bucket, gpu, kafka-elsewhere, monitoring, newsroom"):
        render(Wanted(components=("news",)))
    with pytest.raises(
        UsageError, match="without = 'gpu': no component of production, which takes in: monitoring, strimzi"
    ):
        render(Wanted(overlay="production", without=("gpu",)))


def test_a_pod_that_asks_for_more_is_refused_there(house: House) -> None:
    [namespace] = [item for item in house.rendered() if item["kind"] == "Namespace"]
    house.kube.apply(namespace)
    [steer] = [item for item in house.rendered() if str(key(item)) == "Deployment steer"]
    pod = pod_of(steer)
    pod["spec"] |= {"serviceAccountName": "default", "hostNetwork": True}
    with pytest.raises(ApiException, match="violates PodSecurity"):
        house.core.create_namespaced_pod(house.name, pod, dry_run="All")


@pytest.mark.parametrize("overlay", overlays())
def test_the_configuration_is_one_that_every_part_takes(overlay: str, tmp_path: Any) -> None:
    file = tmp_path / CONFIG
    file.write_text(configuration(overlay))
    for item in workloads(overlay):
        for container in containers(item):
            variables = {name: value for name, value in environment(item, container).items() if "__" in name}
            load(file, environ=variables)


@pytest.mark.parametrize("overlay", overlays())
def test_every_container_of_ours_runs_a_part_that_there_is(overlay: str) -> None:
    for item in workloads(overlay):
        for container in containers(item):
            if container["image"].rpartition("/")[2].startswith("everloop"):
                assert container["args"][-1] in PARTS


@pytest.mark.parametrize("overlay", overlays())
def test_the_newsroom_is_a_command_that_there_is_and_reaches_what_it_needs(overlay: str) -> None:
    items = render(Wanted(overlay=overlay, components=("newsroom",)))
    [newsroom] = [item for item in items if str(key(item)) == "Deployment newsroom"]
    [container] = containers(newsroom)
    words = [*container["command"], *container["args"]]
    at: Any = typer.main.get_command(application())
    context = click.Context(at, info_name=words[0])
    _, at, rest = at.resolve_command(context, words[1:])
    given = at.make_context(at.name, rest, parent=context).params
    assert (given["gateway"], given["duration"]) == ("http://gateway", 0.0)
    # Its key is no argument, and in production neither is Kafka's password.
    secrets = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert secrets == {"EVERLOOP_KEY"} | ({"EVERLOOP_KAFKA__SASL_PASSWORD"} if overlay == "production" else set())
    [kafka] = {
        port["port"]
        for item in items
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "to-kafka"
        for rule in item["spec"]["egress"]
        for port in rule["ports"]
    }
    [policy] = [item["spec"] for item in items if str(key(item)) == "NetworkPolicy newsroom"]
    opened = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert {kafka, AddressSettings().gateway_port} <= opened


def test_production_can_do_with_a_kafka_of_ones_own(house: House) -> None:
    config = '[kafka]\nbootstrap = "kafka.example:9093"\nreplication = 3\nca_file = "/etc/kafka/ca.crt"\n'
    wanted = {"components": ("kafka-elsewhere", "newsroom"), "without": ("strimzi",), "config": config}
    items = house.rendered("production", **wanted)
    assert not [item for item in items if "strimzi" in item["apiVersion"]]
    for item in items:
        house.kube.apply(item)
    ours = [each for item in items for each in containers(item) if each["name"] in (*OURS, "follower", "newsroom")]
    readers = [each for each in ours if each["name"] != "model-server"]
    for each in readers:
        [password] = [given for given in each["env"] if given["name"] == "EVERLOOP_KAFKA__SASL_PASSWORD"]
        assert password["valueFrom"]["secretKeyRef"] == {"name": "kafka", "key": "password"}
    assert len(readers) == 6
    [policy] = [item["spec"] for item in items if str(key(item)) == "NetworkPolicy to-kafka"]
    [chosen] = policy["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == {*OURS, "newsroom"}


@pytest.mark.parametrize("overlay", overlays())
def test_with_a_bucket_nobody_needs_a_volume_that_many_nodes_mount(overlay: str) -> None:
    items = render(Wanted(overlay=overlay, components=("bucket",)))
    assert not [item for item in items if item["kind"] == "PersistentVolumeClaim"]
    users = [item for item in items if item["kind"] == "Deployment" and component(item) in ("trainer", "model-server")]
    assert len(users) == 2
    for item in users:
        [models] = [each for each in (pod_spec(item) or {})["volumes"] if each["name"] == "models"]
        assert models == {"name": "models", "emptyDir": {}}
        [reads] = [each for each in containers(item) if "envFrom" in each]
        assert reads["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    [trainer] = [each for each in containers(users[1]) if each["name"] == "trainer"]
    loaded = load(None, environ={name: value for name, value in environment(users[1], trainer).items() if "__" in name})
    assert loaded.config.trainer.store.uri == "secret"


def test_the_ports_are_those_on_which_the_parts_listen() -> None:
    wanted = {
        "gateway": AddressSettings().gateway_port,
        "streams": AddressSettings().streams_port,
        "trainer": AddressSettings().trainer_port,
        "follower": AddressSettings().follower_port,
        "steer": AddressSettings().steer_port,
    }
    found = {
        container["name"]: container["ports"][0]["containerPort"]
        for item in workloads("single")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert wanted.items() <= found.items()


def test_the_model_server_gets_the_flags_that_up_gives() -> None:
    [command] = [
        container["args"]
        for item in workloads("single")
        for container in containers(item)
        if container["name"] == "model-server"
    ]
    _, unknown = parse(command)
    assert unknown == []
    assert {f"--{name}={value}" for name, value in SERVING_FLAGS.items()} <= set(command)


def test_the_topics_of_the_operator_are_those_of_the_code() -> None:
    items = render(Wanted(overlay="production"))
    partitions = tomllib.loads(configuration("production"))["kafka"]["partitions"]
    found = {
        item["metadata"]["name"]: (item["spec"]["partitions"], item["spec"].get("config", {}))
        for item in items
        if item["kind"] == "KafkaTopic"
    }
    assert found == {topic.name: (partitions if topic.keyed_by_request else 1, topic.config) for topic in TOPICS}


@pytest.mark.parametrize("overlay", overlays())
def test_every_pod_keeps_to_the_same_rules(overlay: str) -> None:
    for item in workloads(overlay):
        spec = item["spec"]["template"]["spec"]
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is (component(item) == "trainer")
        for container in containers(item):
            context, resources = container["securityContext"], container["resources"]
            assert context["readOnlyRootFilesystem"] is (container["name"] != "kafka")
            assert set(resources["requests"]) == {"cpu", "memory"}
            assert "memory" in resources["limits"]
            assert not any(
                word in str(argument) for argument in container.get("args", ()) for word in ("password", "key=")
            )
        if component(item) in OURS:
            for container in spec["containers"]:
                ready, alive = container.get("readinessProbe"), container.get("livenessProbe")
                assert alive is not None
                assert ready is None or component(item) == "steer" or ready.get("httpGet") != alive.get("httpGet")


@pytest.mark.parametrize("overlay", overlays())
def test_every_part_has_a_disruption_budget_that_lets_a_node_be_drained(overlay: str) -> None:
    items = render(Wanted(overlay=overlay))
    budgets = {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == set(OURS)
    assert {spec["maxUnavailable"] for spec in budgets.values()} == {1}


@pytest.mark.parametrize("overlay", overlays())
def test_every_part_may_talk_to_those_it_needs_and_nobody_else(overlay: str) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in render(Wanted(overlay=overlay))
        if item["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [kafka] = policies["to-kafka"]["podSelector"]["matchExpressions"]
    assert set(kafka["values"]) == set(OURS)
    [redis] = policies["to-redis"]["podSelector"]["matchExpressions"]
    assert set(redis["values"]) == {"gateway", "streams"}
    assert all("from" in rule for spec in policies.values() for rule in spec.get("ingress", ()))


def test_only_the_trainer_of_the_gpu_overlay_gets_a_gpu() -> None:
    limits = {
        component(item): container["resources"]["limits"]
        for item in workloads("gpu")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert [name for name, each in limits.items() if "nvidia.com/gpu" in each] == ["trainer"]


def test_more_workers_than_partitions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"maxReplicas = 8: at most kafka\.partitions = 4"):
        render(Wanted(overlay="production", config="[kafka]\npartitions = 4\n"))


def test_requests_cover_what_each_part_was_measured_to_take() -> None:
    measured = {
        each.name: each.value
        for each in msgspec.json.decode((ROOT / "docs" / "results" / "k8s.json").read_bytes(), type=Report).figures
    }
    asked = {
        container["name"]: container["resources"]
        for item in workloads("single")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    for name, resources in asked.items():
        peak = measured[f"{name}_peak_mib"] * 2**20
        assert number(resources["requests"]["cpu"]) >= measured[f"{name}_cores"], name
        assert peak <= number(resources["requests"]["memory"]) <= number(resources["limits"]["memory"]), name


def test_images_and_namespace_are_the_users_where_they_say_so() -> None:
    items = render(Wanted(overlay="gpu", namespace="mine", image="registry.example/loop/everloop", tag="2.0"))
    images = {
        container["image"] for item in items for container in containers(item) if "everloop" in container["image"]
    }
    assert images == {"registry.example/loop/everloop:2.0-cpu", "registry.example/loop/everloop:2.0-gpu"}
    assert {item["metadata"].get("namespace", item["metadata"]["name"]) for item in items} == {"mine"}


def test_an_overlay_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="overlay = 'prod': one of gpu, production, single"):
        render(Wanted(overlay="prod"))


def test_a_kustomization_with_more_than_is_understood_is_refused(tmp_path: Any) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: my-\n")
    with pytest.raises(UsageError, match="namePrefix is not understood here"):
        build(tmp_path)
