"""`everloop k8s`, as a person types it."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from kubernetes import client

from everloop.cli import run
from k8s.rollout import apply, wait
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, Shell, until


def test_apply_twice_changes_nothing_the_second_time_and_diff_is_empty_then(house: House, shell: Shell) -> None:
    status, out, err = shell("diff", "-n", house.name)
    assert status == 1
    assert "Deployment trainer: create" in out
    status, out, err = shell("apply", "-n", house.name)
    assert status == 0, err
    assert out.strip().endswith("objects changed, everything is ready")
    assert "created StatefulSet gateway" in err
    status, out, err = shell("apply", "-n", house.name)
    assert (status, out.strip()) == (0, "0 objects changed, everything is ready"), err
    assert "release" not in err
    assert shell("diff", "-n", house.name)[:2] == (0, "no difference\n")


def test_diff_names_each_field_that_an_apply_would_change_and_changes_none(house: House, shell: Shell) -> None:
    house.live_in()
    status, out, _ = shell("diff", "-n", house.name, "--tag", "2.0", "--json")
    assert status == 1
    changes = {each["object"]: each["fields"] for each in json.loads(out)}
    assert set(changes) == {f"Deployment {name}" for name in ("trainer", "model-server", "steer")} | {
        f"StatefulSet {name}" for name in ("gateway", "streams")
    }
    [field] = changes["Deployment steer"]
    assert field == "spec.template.spec.containers[steer].image: everloop:cpu → everloop:2.0-cpu"
    assert shell("diff", "-n", house.name)[0] == 0


def test_a_changed_configuration_rolls_the_pods_and_the_old_one_stays_for_the_way_back(
    house: House, shell: Shell, tmp_path: Path
) -> None:
    house.live_in()
    before = {pod["metadata"]["uid"] for pod in house.pods("steer")}
    file = tmp_path / "everloop.toml"
    file.write_text(
        '[kafka]\nbootstrap = "kafka:9092"\n\n[redis]\nurl = "redis://redis:6379/0"\n\n[trainer.versions]\nkeep = 5\n'
    )
    status, _, err = shell("apply", "-n", house.name, "--config", str(file))
    assert status == 0, err
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in house.pods("steer"))
    status, out, err = shell("rollback", "-n", house.name)
    assert status == 0, err
    assert "back to release 1" in out
    assert shell("diff", "-n", house.name)[0] == 0


def test_a_configuration_with_a_mistake_or_a_secret_is_refused_before_the_cluster_is_asked(
    house: House, shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "everloop.toml"
    file.write_text("[kafka]\npartitions = 0\n")
    status, _, err = shell("apply", "-n", house.name, "--config", str(file))
    assert status == 2
    assert "kafka.partitions = 0" in err
    file.write_text('[redis]\nurl = "redis://:hunter2@redis:6379/0"\n')
    status, _, err = shell("render", "--config", str(file))
    assert status == 2
    assert "redis.url" in err and "hunter2" not in err


def test_a_secret_that_is_missing_is_named_before_anything_is_applied(house: House, shell: Shell) -> None:
    house.core.delete_namespaced_secret("gateway-keys", house.name)
    status, _, err = shell("apply", "-n", house.name)
    assert status == 2
    assert f"namespace {house.name} lacks Secret gateway-keys" in err
    assert house.pods("gateway") == []


def test_without_a_cluster_the_error_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert run(["k8s", "status"]) == 2
    assert "name one with --context, $KUBECONFIG or ~/.kube/config" in capfd.readouterr().err


def test_a_missing_right_is_named_by_verb_and_resource(house: House, shell: Shell) -> None:
    status, _, err = shell("status", "-n", house.name, user="alice")
    assert status == 1
    assert 'User "alice" cannot list resource "configmaps"' in err
    rights = client.RbacAuthorizationV1Api(house.cluster.client())
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    rights.create_namespaced_role(house.name, {"metadata": {"name": "reader"}, "rules": rules})
    rights.create_namespaced_role_binding(
        house.name,
        {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
        },
    )
    until(lambda: shell("status", "-n", house.name, user="alice")[1].startswith("nothing of everloop"))
    status, _, err = shell("apply", "-n", house.name, user="alice")
    assert status == 1
    assert 'User "alice" cannot patch resource' in err


def test_a_kind_that_the_cluster_does_not_know_is_named_with_who_brings_it(
    house: House, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "kustomization.yaml").write_text("namespace: x\nresources: [monitor.yaml]\n")
    (tmp_path / "monitor.yaml").write_text(
        "apiVersion: monitoring.coreos.com/v1\nkind: Nothing\nmetadata: {name: loop}\nspec: {}\n"
    )
    status, _, err = shell("apply", "-n", house.name, "--overlay", str(tmp_path))
    assert status == 1
    assert "has no kind Nothing in monitoring.coreos.com/v1: install what defines it (the Prometheus operator)" in err


def test_a_field_that_another_manager_has_set_is_a_conflict_until_forced(house: House, shell: Shell) -> None:
    house.live_in()
    done = house.cluster.kubectl("scale", "statefulset", "streams", "--replicas=3", "-n", house.name)
    assert done.returncode == 0, done.stderr
    status, _, err = shell("apply", "-n", house.name)
    assert status == 1
    assert 'StatefulSet streams: .spec.replicas: conflict with "kubectl"' in err
    assert "--force takes the fields over" in err
    status, _, err = shell("apply", "-n", house.name, "--force")
    assert status == 0, err
    assert len(house.pods("streams")) == 1


def test_logs_are_printed_by_part_with_the_pod_in_front(house: House, shell: Shell) -> None:
    house.live_in()
    status, out, err = shell("logs", "gateway", "-n", house.name)
    assert status == 0, err
    assert out.splitlines() == [f"gateway-{number}/gateway: a line of a pod" for number in (0, 1)]
    status, _, err = shell("logs", "gate", "-n", house.name)
    assert status == 2
    assert "there are pods of: gateway, kafka, model-server, redis, steer, streams, trainer" in err


def test_delete_asks_and_keeps_the_data_unless_told(
    house: House, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.live_in()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert shell("delete", "-n", house.name)[0] == 1
    assert house.pods("gateway")
    assert shell("delete", "-n", house.name, "--yes")[0] == 0
    until(lambda: not any(house.pods(part) for part in ("gateway", "trainer", "kafka")))
    claims = {each.metadata.name for each in house.core.list_namespaced_persistent_volume_claim(house.name).items}
    assert claims >= {"models", "spool-gateway-0", "state-streams-0", "data-kafka-0"}
    house.live_in()
    assert shell("delete", "-n", house.name, "--yes", "--data")[0] == 0


def test_an_api_server_that_is_killed_in_the_middle_comes_back_to_an_apply_that_finishes(own_cluster: Cluster) -> None:
    own_cluster.add_node("node-0")
    house = House(own_cluster)
    items, done = house.rendered(), []

    def bring() -> None:
        done.extend(apply(house.kube, items, namespace=house.name, say=house.said.append))
        wait(house.kube, items, namespace=house.name, timeout_s=120, say=house.said.append)

    thread = threading.Thread(target=bring)
    thread.start()
    until(lambda: sum(line.startswith("created") for line in house.said) >= 10)
    own_cluster.kill_api()
    until(lambda: any("waiting for the API server" in line for line in house.said))
    own_cluster.start_api()
    thread.join()
    # An answer that was lost on the way back is asked for again: then nothing is left to change.
    assert len(items) - 1 <= len(done) <= len(items)
    assert apply(house.kube, items, namespace=house.name, say=house.said.append) == []
