"""One control plane for the session, a namespace for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop.runtime.ports import free_port
from tests.k8s.controlplane.cluster import Cluster
from tests.k8s.kit import House, Shell, define


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder: it needs what Go compiles."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.k8s)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The session's control plane: two nodes, a third with GPUs that only who tolerates them gets, and the operators' kinds. Port 9103
    of every pod, a follower's, leads to a port of this machine."""
    with Cluster(forwards={9103: free_port()}) as running:
        for name in ("node-0", "node-1"):
            running.add_node(name)
        running.add_node("gpu-0", gpus=2, taint="nvidia.com/gpu")
        define(running)
        yield running


@pytest.fixture
def house(cluster: Cluster) -> House:
    """A namespace of the session's cluster; it goes with the cluster."""
    return House(cluster)


@pytest.fixture
def shell(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """The command line, on the session's cluster."""
    return Shell(cluster, monkeypatch, capfd)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A control plane that the test may hurt; each of its nodes has a kubelet of its own."""
    with Cluster(one_kubelet=False) as running:
        yield running
