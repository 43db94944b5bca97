"""What needs no cluster: patches, differences, reasons, releases."""

from __future__ import annotations

import doctest
import importlib

import pytest

from feedback.errors import CorruptError, UsageError
from k8s.changes import differences
from k8s.kustomize import digest
from k8s.merge import merged, patched
from k8s.objects import Object
from k8s.ready import pod_reason, reasons, standing, stuck
from k8s.releases import Release, pack, target, unpack

MODULES = ("changes", "merge", "objects", "ready", "status")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"k8s.{name}")).failed == 0


def test_a_merge_keeps_containers_apart_by_name_and_replaces_other_lists() -> None:
    target_ = {"containers": [{"name": "a", "args": [1, 2], "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}
    patch = {"containers": [{"name": "a", "args": [3], "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]}
    assert merged(target_, patch) == {
        "containers": [
            {"name": "c"},
            {"name": "a", "args": [3], "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "b"},
        ]
    }


def test_a_json_patch_changes_a_copy() -> None:
    before = {"a": [1, 2], "b/c": {"d": 1}}
    operations = [
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "add", "path": "/a/0", "value": 0},
        {"op": "replace", "path": "/b~1c/d", "value": 2},
    ]
    assert patched(before, operations) == {"a": [0, 1, 2, 3], "b/c": {"d": 2}}
    assert patched(before, [{"op": "remove", "path": "/a/0"}]) == {"a": [2], "b/c": {"d": 1}}
    assert before == {"a": [1, 2], "b/c": {"d": 1}}


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        ({"op": "replace", "path": "/x/y", "value": 1}, "replace /x/y: there is nothing there"),
        ({"op": "remove", "path": "/a/7"}, "remove /a/7: there is nothing there"),
        ({"op": "move", "path": "/a"}, "op = 'move': add, replace or remove"),
    ],
)
def test_a_patch_that_leads_nowhere_is_refused(operation: Object, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        patched({"a": [1]}, [operation])


def test_a_digest_depends_on_the_data_alone_and_escapes_as_go_does() -> None:
    assert digest({"a": "1"}) == digest({"a": "1"}) != digest({"a": "2"})
    assert digest({"a": "<&>"}) != digest({"a": "<>"})


def test_what_the_server_adds_is_no_difference() -> None:
    metadata: Object = {"name": "a", "labels": {"x": "1"}}
    said: Object = {"metadata": metadata, "spec": {"list": [{"name": "n", "v": 1}]}}
    live = {
        "metadata": metadata | {"resourceVersion": "7", "managedFields": [{}], "uid": "u"},
        "spec": said["spec"],
        "status": {"ready": 1},
    }
    assert differences(said, live) == ()
    other = {"metadata": said["metadata"], "spec": {"list": [{"name": "n", "v": 2}]}}
    assert differences(said, other) == ("spec.list[n].v: 1 → 2",)


def pod(name: str, *, ready: bool = False, revision: str = "new", **status: object) -> Object:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "labels": {"controller-revision-hash": revision}},
        "status": {"conditions": conditions} | status,
    }


def test_a_pod_says_why_it_is_not_ready() -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    crashed = pod(
        "p", containerStatuses=[{"name": "c", "ready": False, "state": {"waiting": waiting}, "lastState": last}]
    )
    assert pod_reason(crashed) == "pod p: c: CrashLoopBackOff: back-off 10s (ended with 137: OOMKilled)"
    nowhere = pod("p")
    nowhere["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    ]
    assert pod_reason(nowhere) == "pod p: Unschedulable: 0/3 nodes"
    slow = pod("p", containerStatuses=[{"name": "a", "ready": True}, {"name": "b", "ready": False}])
    assert pod_reason(slow) == "pod p: b not ready yet"


def test_a_quota_says_how_much_it_lacks() -> None:
    workload = {"kind": "Deployment", "metadata": {}, "spec": {"replicas": 2}, "status": {}}
    message = (
        'pods "x" is forbidden: exceeded quota: small, requested: requests.cpu=1,requests.memory=1Gi, '
        "used: requests.cpu=2500m,requests.memory=1Gi, limited: requests.cpu=3,requests.memory=1536Mi"
    )
    found = reasons(workload, [], [{"reason": "FailedCreate", "message": message}])
    assert found == [
        "quota small is too small: requests.cpu 0.5 more (a pod needs 1, 2500m of 3 are used), "
        "requests.memory 512Mi more (a pod needs 1Gi, 1Gi of 1536Mi are used)"
    ]


def test_only_pods_that_nobody_wants_any_more_are_stuck() -> None:
    workload = {"kind": "StatefulSet", "metadata": {}, "spec": {}, "status": {"updateRevision": "new"}}
    pods = [pod("a", revision="old"), pod("b", revision="old", ready=True), pod("c")]
    assert [each["metadata"]["name"] for each in stuck(workload, pods)] == ["a"]
    assert stuck(workload | {"kind": "Deployment"}, pods) == []


ROLLING = {"updateRevision": "b", "currentRevision": "a"}


@pytest.mark.parametrize(
    ("kind", "status", "rolled"),
    [
        ("Deployment", {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 3}, True),
        ("Deployment", {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 2}, False),
        ("Deployment", {"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3, "observedGeneration": 3}, False),
        ("Deployment", {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "observedGeneration": 3}, False),
        ("StatefulSet", {"updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 3} | ROLLING, True),
        ("StatefulSet", {"updatedReplicas": 1, "readyReplicas": 2, "observedGeneration": 3} | ROLLING, False),
        ("StatefulSet", {"readyReplicas": 2, "observedGeneration": 3, "updateRevision": "a", "currentRevision": "a"}, True),
    ],
)  # fmt: skip
def test_a_workload_is_rolled_when_all_that_are_wanted_are_new_and_ready(
    kind: str, status: Object, rolled: bool
) -> None:
    item = {"kind": kind, "metadata": {"generation": 3}, "spec": {"replicas": 2}, "status": status}
    assert standing(item).rolled is rolled


def release(number: int, digest_: str) -> Release:
    return Release(number=number, digest=digest_, applied="", objects=[])


def test_the_way_back_leads_to_the_newest_release_that_differs() -> None:
    known = [release(1, "a"), release(2, "b"), release(3, "c"), release(4, "c")]
    assert target(known, None).number == 2
    assert target(known, 1).number == 1
    with pytest.raises(UsageError, match="release = 9: one of 1, 2, 3, 4"):
        target(known, 9)
    with pytest.raises(UsageError, match="no earlier release"):
        target(known[:1], None)
    with pytest.raises(UsageError, match=r"no earlier release to go back to \(known: none\)"):
        target([], None)


def test_a_release_is_read_back_as_it_was_written_and_a_damaged_one_refused() -> None:
    items = [{"kind": "Deployment", "metadata": {"name": "é"}}]
    kept = pack(items, number=3, namespace="n", applied="2026-01-01T00:00:00+00:00")
    assert unpack(kept) == Release(
        number=3,
        digest=kept["metadata"]["annotations"]["everloop.dev/digest"],
        applied="2026-01-01T00:00:00+00:00",
        objects=items,
    )
    kept["metadata"]["annotations"]["everloop.dev/digest"] = "0" * 32
    with pytest.raises(CorruptError, match="not those it was written with"):
        unpack(kept)
    kept["binaryData"]["objects.json.gz"] = "AAAA"
    with pytest.raises(CorruptError, match="ConfigMap everloop-release-3"):
        unpack(kept)
